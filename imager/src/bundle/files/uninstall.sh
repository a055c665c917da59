#!/bin/sh
# Removes Kiln from this machine: its pods, mounts, interfaces and rules, its files, and with them all its data.
set -eu

LIB=/usr/local/lib/kiln
BIN=/usr/local/bin
ETC=/etc/kiln

keep=''
case ${1:-} in
    '') ;;
    --keep-data) keep=yes ;;
    *)
        cat <<'END'
Removes Kiln from this machine, with its pods and all its data.

Usage: kiln-uninstall [--keep-data]

  --keep-data  leave the data folder and /etc/kiln, so that another installation goes on with them

Examples:
  kiln-uninstall
  kiln-uninstall --keep-data

Exit codes:
  0  done
  1  something could not be removed
  2  wrong usage, or not root
END
        case $1 in -h | --help) exit 0 ;; esac
        exit 2
        ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo 'kiln: it must be root that uninstalls' >&2
    exit 2
fi

# Gives the kernel its settings back as they were; interfaces may have gone meanwhile.
restore_settings() {
    [ -f "$ETC/settings" ] || return 0
    while read -r file value; do
        [ ! -f "$file" ] || [ "$(cat "$file")" = "$value" ] || echo "$value" >"$file" || true
    done <"$ETC/settings"
    rm -f "$ETC/settings"
}

INIT=none DATA=/var/lib/kiln
[ ! -f "$ETC/installed" ] || . "$ETC/installed"

case $INIT in
    systemd)
        systemctl disable --now kiln.service || true
        rm -f /etc/systemd/system/kiln.service
        systemctl daemon-reload || true
        ;;
    openrc)
        rc-service --quiet kiln stop || true
        rc-update delete kiln default || true
        rm -f /etc/init.d/kiln
        ;;
    none) "$LIB/service" stop ;;
esac

"$BIN/kiln" killall --data-dir "$DATA"
restore_settings

rm -rf /run/kiln /var/log/kiln.log /var/log/kiln.log.1 /var/log/pods
if [ -z "$keep" ]; then
    # What is mounted there is somebody's.
    pods=
    [ "$DATA" != /var/lib/kiln ] || pods=/var/lib/kubelet
    for folder in "$DATA" $pods; do
        if grep -q " $folder/" /proc/self/mounts; then
            echo "kiln: something is still mounted below $folder; unmount it, and run this again" >&2
            exit 1
        fi
    done
    [ -z "$pods" ] || rm -rf "$pods" || [ -z "$(ls -A "$pods")" ]
    # A disk of its own for the folder stays, empty.
    rm -rf "$DATA" "$ETC" || [ -z "$(ls -A "$DATA")" ]
fi
# The shell has read what follows: it lies in one of these files.
rm -rf "$BIN/kiln" "$BIN/kiln-uninstall" "$LIB" && echo 'kiln: removed' && exit 0
