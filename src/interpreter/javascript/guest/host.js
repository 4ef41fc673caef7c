// The conversation with the host: `/dev/host` takes a frame (length as u32 little-endian, then the payload) and
// gives one back. A payload is one line of JSON, a newline, and raw bytes.
casemate$part(($) => {
  "use strict";
  const { os, Uint8Array, ArrayBuffer, parse, stringify, subarray, setBytes } = $;
  const { open, close, read, write, O_RDWR } = os;
  const NOTHING = new Uint8Array(0);
  // Enough for most answers in one read.
  const ROOM = 1 << 16;
  const room = new ArrayBuffer(ROOM);
  let channel = -1;

  const openHost = () => {
    channel = open("/dev/host", O_RDWR);
    if (channel < 0) throw new $.Error(`the host cannot be asked: /dev/host does not open (${channel})`);
  };
  $.closeHost = () => {
    if (channel >= 0) close(channel);
    channel = -1;
  };

  const failed = (what) => new $.Error(`the host cannot be asked: ${what} failed`);

  const readFully = (buffer, from, to) => {
    while (from < to) {
      const count = read(channel, buffer, from, to - from);
      if (!(count > 0)) throw failed("reading");
      from += count;
    }
  };

  /** Sends a header and bytes; gives the answer's header and its bytes, which only live until the next call. */
  $.ask = (header, body = NOTHING) => {
    if (channel < 0) openHost();
    const head = $.encode(stringify(header) + "\n");
    const size = head.length + body.length;
    const frame = new Uint8Array(4 + size);
    frame[0] = size;
    frame[1] = size >> 8;
    frame[2] = size >> 16;
    frame[3] = size >> 24;
    setBytes(frame, head, 4);
    setBytes(frame, body, 4 + head.length);
    for (let at = 0; at < frame.length;) {
      const count = write(channel, frame.buffer, at, frame.length - at);
      if (!(count > 0)) throw failed("writing");
      at += count;
    }
    let got = read(channel, room, 0, ROOM);
    if (!(got > 0)) throw failed("reading");
    if (got < 4) {
      readFully(room, got, 4);
      got = 4;
    }
    const bytes = new Uint8Array(room);
    const total = 4 + bytes[0] + bytes[1] * 256 + bytes[2] * 65536 + bytes[3] * 16777216;
    let answer = bytes;
    if (total > ROOM) {
      answer = new Uint8Array(total);
      setBytes(answer, subarray(bytes, 0, got), 0);
    }
    readFully(answer.buffer, got, total);
    let line = $.byteIndexOf(answer, 10, 4);
    if (line < 0 || line > total) line = total;
    return [parse($.decode(subarray(answer, 4, line))), subarray(answer, $.min(line + 1, total), total)];
  };
});
