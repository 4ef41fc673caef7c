import base64, binascii, bz2, gzip, hashlib, hmac, io, lzma, os, struct, tarfile, zipfile, zlib
data = b"the same words again and again, " * 200 + bytes(range(256))
for module in (zlib, bz2, lzma, gzip):
    packed = module.compress(data)
    print(module.__name__, len(packed) < len(data) // 4, module.decompress(packed) == data)
with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("x/one.txt", "one"); z.writestr("two.bin", data)
with zipfile.ZipFile("a.zip") as z: print(z.namelist(), z.testzip(), z.read("x/one.txt"), z.getinfo("two.bin").file_size)
with tarfile.open("a.tar.gz", "w:gz") as t:
    with open("f.txt", "w") as f: f.write("file")
    t.add("f.txt")
with tarfile.open("a.tar.gz") as t: print(t.getnames(), t.extractfile("f.txt").read())
print(zlib.crc32(data), zlib.adler32(data), binascii.hexlify(b"\x00\xffab"), binascii.crc_hqx(b"abc", 0))
for name in ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b"): print(name, hashlib.new(name, data).hexdigest()[:32])
print(hmac.new(b"key", b"message", "sha256").hexdigest(), hashlib.pbkdf2_hmac("sha256", b"pw", b"salt", 1000).hex())
print(base64.b64encode(b"\xfb\xff\xfe"), base64.urlsafe_b64encode(b"\xfb\xff\xfe"), base64.b32encode(b"abc"), base64.b85encode(b"hello"), base64.a85encode(b"hello"))
print(struct.pack("<IhQd?3s", 1, -2, 3, 1.5, True, b"abc"), struct.unpack(">hI", b"\xff\xfe\0\0\0\x07"), struct.calcsize("<bhiq"))
