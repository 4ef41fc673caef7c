# What scripts do with the tools of busybox; prints each and ends with 1 if one failed.
n=0; bad=0
t() { # NAME EXPECTED COMMAND
  n=$((n+1)); got=$(sh -c "$3" 2>&1)
  if [ "$got" = "$2" ]; then echo "ok    $1"; else bad=$((bad+1)); echo "FAIL  $1: $got"; fi
}
cd /tmp
t pipeline 3 'printf "c\na\nb\n" | sort | tail -n 1 | tr c 3'
t awk 5050 'seq 100 | awk "{s+=\$1} END {print s}"'
t 'awk system and getline' 'x 1' 'awk "BEGIN { \"echo x\" | getline v; close(\"echo x\"); system(\"true\"); print v, 1 }"'
t sort '1 2 10' 'printf "10\n2\n1\n" | sort -n | xargs echo'
t 'tar and gzip' same 'mkdir -p d/e && seq 1000 > d/e/f && tar czf d.tgz d && mkdir -p o && tar xzf d.tgz -C o && cmp d/e/f o/d/e/f && echo same'
t gunzip 1000 'gzip -c d/e/f | gunzip -c | wc -l'
t 'bzip2, xz -d' ok 'echo ok | bzip2 | bunzip2'
t find d/e/f 'find d -type f -size +1k -newer /etc/passwd'
t 'find -exec' d/e/f 'find d -name f -exec echo {} \;'
t 'grep -r' d/e/f 'grep -rl "^999$" d'
t sed b 'echo a | sed s/a/b/'
t 'sed -i' x 'echo y > s && sed -i s/y/x/ s && cat s'
t 'cp, mv, ln, rm' l 'cp -a d d2 && mv d2 d3 && ln -s f d3/e/l && ls d3/e | grep l && rm -r d3'
t mkfifo hi 'mkfifo p; (echo hi > p &) ; cat p; rm p'
t 'dd, md5sum' 'b6d81b360a5672d80c27430f39153e2c' 'dd if=/dev/zero bs=1M count=1 2>/dev/null | md5sum | cut -d" " -f1'
t timeout 0 'timeout 1 sleep 5 >/dev/null 2>&1; [ $? -ge 124 ]; echo $? | tail -n 1'
t 'background and wait' 7 '(exit 7) & wait $!; echo $?'
t trap caught 'trap "echo caught; exit 0" TERM; kill -TERM $$; sleep 1'
t 'here document' doc 'cat <<X
doc
X'
t 'nc on loopback' hello '(echo hello | nc -l -p 9000 127.0.0.1 >/dev/null & until nc 127.0.0.1 9000 </dev/null 2>/dev/null; do :; done)'
t 'vi -h' 0 'vi -H >/dev/null 2>&1; [ $? -lt 126 ]; echo $?'
t 'ps, top' 0 'ps >/dev/null && top -b -n 1 >/dev/null; echo $?'
t 'id, date, uname' Linux 'id >/dev/null; date >/dev/null; uname'
t 'df, du, stat, free' 0 'df >/dev/null && du d >/dev/null && stat d >/dev/null && free >/dev/null; echo $?'
t setsid 0 'setsid true; echo $?'
t 'cpio' f 'cd d/e; echo f | cpio -o -H newc 2>/dev/null | cpio -t 2>/dev/null'
t 'ip, ifconfig' 0 'ip addr show lo >/dev/null && ifconfig lo >/dev/null; echo $?'
t 'sh arithmetic loop' 1000 'i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo $i'
t expr 6 'expr 2 \* 3'
t 'mount, chroot and unshare are refused' '1 1 1' 'mount -t tmpfs x /tmp 2>/dev/null; a=$?; chroot /tmp true 2>/dev/null; b=$?; unshare -r true 2>/dev/null; c=$?; echo $((a>0)) $((b>0)) $((c>0))'
echo "$((n-bad)) of $n passed"; [ $bad = 0 ]
