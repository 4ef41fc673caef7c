#!/usr/bin/env bash
# Builds the images that the tests of containers run, from Debian's packages: no registry is asked.
#   casemate-test/busybox:1   busybox, and a user `sandbox` (1000)
#   casemate-test/empty:1     nothing but one static program that ends at once: no shell, no /etc, no libc
#   casemate-test/python:1    Python 3 with its standard library, on busybox
#   casemate-test/languages:1 a C compiler (tcc), bash, Lua and Perl besides
#   casemate-test/jupyter:1   ipykernel besides Python
# Those that are there already stay.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

missing() { ! docker image inspect "casemate-test/$1:1" >/dev/null 2>&1; }

package() { # NAME DIRECTORY: the files of a Debian package
  # Without lists of packages nothing is found; they may never have been fetched.
  apt-get download -qq "$1" 2>/dev/null || { apt-get update -qq >&2 && apt-get download -qq "$1" >&2; }
  dpkg -x "$1"_*.deb "$2"
}

import() { # NAME DIRECTORY CHANGE...
  local name=$1 root=$2
  shift 2
  tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - . \
    | docker import "${@/#/--change=}" - "casemate-test/$name:1" >/dev/null
  echo "built casemate-test/$name:1"
}

busybox() { # DIRECTORY: a root file system with busybox for everything
  mkdir -p "$1"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,var,workspace}
  chmod 1777 "$1/tmp" "$1/workspace"
  package busybox-static unpacked
  cp unpacked/bin/busybox "$1/bin/busybox"
  for applet in $("$1/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$1/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nsandbox:x:1000:1000::/workspace:/bin/sh\n' > "$1/etc/passwd"
  printf 'root:x:0:\nsandbox:x:1000:\nextra:x:2000:sandbox\n' > "$1/etc/group"
}

if missing busybox; then
  busybox b
  import busybox b 'ENV PATH=/bin:/usr/bin' 'WORKDIR /workspace' 'CMD ["/bin/sh"]'
fi
if missing empty; then
  mkdir e
  printf 'int main(void) { return 7; }\n' > end.c
  cc -static -O2 -o e/end end.c
  strip e/end
  import empty e 'CMD ["/end"]'
fi
if missing python; then
  busybox p
  # What the interpreter is linked with comes from its own packages; the dynamic loader finds it in /lib.
  for name in python3-minimal python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 zlib1g libexpat1 \
    libssl3 libffi8 libbz2-1.0 liblzma5 libuuid1 libncursesw6 libtinfo6 libreadline8 libsqlite3-0 libcrypt1 libdb5.3 \
    libgcc-s1 libstdc++6; do
    package "$name" p
  done
  rm -rf p/usr/share/{doc,man,locale} unpacked
  import python p 'ENV PATH=/usr/bin:/bin' 'WORKDIR /workspace' 'CMD ["/usr/bin/python3"]'
fi
if missing jupyter; then
  mkdir j
  docker create casemate-test/python:1 > container
  docker export "$(cat container)" | tar -C j --exclude=dev --exclude=proc --exclude=sys -xf -
  docker rm "$(cat container)" >/dev/null
  mkdir -p j/{dev,proc,sys}
  # For the interpreter in the image, which need not be the one here.
  python3 -m venv pip
  pip/bin/pip install --quiet --disable-pip-version-check --target j/usr/lib/python3/dist-packages \
    --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 --platform manylinux2014_x86_64 \
    --platform manylinux_2_28_x86_64 --platform any ipykernel==7.1.0
  mkdir -p j/usr/share/jupyter
  mv j/usr/lib/python3/dist-packages/share/jupyter/kernels j/usr/share/jupyter/
  import jupyter j 'ENV PATH=/usr/bin:/bin' 'WORKDIR /workspace' 'CMD ["/usr/bin/python3"]'
fi
if missing languages; then
  mkdir l
  docker create casemate-test/python:1 > container
  docker export "$(cat container)" | tar -C l --exclude=dev --exclude=proc --exclude=sys -xf -
  docker rm "$(cat container)" >/dev/null
  mkdir -p l/{dev,proc,sys}
  for name in tcc libc6-dev linux-libc-dev bash perl-base lua5.4 liblua5.4-0; do
    package "$name" l
  done
  rm -rf l/usr/share/{doc,man,locale}
  import languages l 'ENV PATH=/usr/bin:/bin' 'WORKDIR /workspace' 'CMD ["/bin/bash"]'
fi
