# Shell functions of tools/: sourced, not run.

# apt_install PACKAGE...: by apt, as root or by sudo without a password; fails where neither is possible.
# Services of the packages are not started: Debian starts them at once unless policy-rc.d says no.
apt_install() {
  command -v apt-get >/dev/null 2>&1 || return 1
  if [ "$(id -u)" = 0 ]; then as_root=
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo -n"
  else return 1; fi
  printf 'setup: apt-get install %s\n' "$*" >&2
  $as_root sh -eu -c '
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap "rm -f $policy" EXIT
      printf "#!/bin/sh\nexit 101\n" >$policy
      chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 || {
      apt-get update -q >/dev/null
      apt-get install -y -q --no-install-recommends "$@" >/dev/null
    }' sh "$@" </dev/null
}
