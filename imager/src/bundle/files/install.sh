#!/bin/sh
# Kiln @VERSION@ for @ARCH@ with its container runtime: one command installs, starts or upgrades a server or an agent. Needs no network.
# An archive follows the last line.
set -eu

VERSION='@VERSION@'
ARCH='@ARCH@'
SHA256='@SHA256@'
PAYLOAD=@LINES@

LIB=/usr/local/lib/kiln
BIN=/usr/local/bin
ETC=/etc/kiln
NET=/proc/sys/net
UNIT=/etc/systemd/system/kiln.service
OPENRC=/etc/init.d/kiln

usage() {
    cat <<END
Kiln $VERSION for $ARCH: Kubernetes in one binary, with containerd, runc and CNI plugins.

Usage: sh $0 [server|agent] [FLAGS OF kiln server OR kiln agent]...

Without a word it is an agent if KILN_URL is set, else a server. Over an installation it is an upgrade: data stay, and
without a word or a flag its settings stay too. Pods keep running.

Examples:
  sh $0
  sh $0 server --tls-san kube.example.org
  sh $0 agent --server https://10.0.0.1:6443 --token-file token
  KILN_URL=https://10.0.0.1:6443 KILN_TOKEN=K10... sh $0
  kiln-uninstall

Variables:
  KILN_URL                  URL of the server
  KILN_TOKEN                join token; kept in $ETC/kiln.env, which only root can read
  KILN_*, HTTP_PROXY, HTTPS_PROXY, NO_PROXY
                            kept for the service in the same file
  INSTALL_KILN_EXEC         the role and flags, where none are given as arguments
  INSTALL_KILN_INIT         systemd, openrc or none, in place of what is found
  INSTALL_KILN_SKIP_ENABLE  true: do not start it at boot
  INSTALL_KILN_SKIP_START   true: do not start it now

Exit codes:
  0  done
  1  another failure: the service did not start
  2  wrong usage, or not root
  3  the file is damaged, or for another machine
  6  a file could not be written
END
}

say() { printf 'kiln: %s\n' "$*"; }

fail() { # code, words...
    code=$1
    shift
    printf 'kiln: %s\n' "$*" >&2
    exit "$code"
}

# A word as a shell reads it.
quote() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

# The machine's init system.
find_init() {
    case ${INSTALL_KILN_INIT:-} in
        systemd | openrc | none) printf '%s' "$INSTALL_KILN_INIT" ;;
        '')
            if [ -d /run/systemd/system ]; then
                printf systemd
            elif [ -d /run/openrc ] || [ -x /sbin/openrc-run ]; then
                printf openrc
            else
                printf none
            fi
            ;;
        *) fail 2 "INSTALL_KILN_INIT is '$INSTALL_KILN_INIT'; it must be systemd, openrc or none" ;;
    esac
}

# Splits the arguments: the role, the data folder, a token, and the other flags as shell words.
parse() {
    role=${KILN_URL:+agent}
    role=${role:-server}
    case ${1:-} in
        server | agent)
            role=$1
            shift
            ;;
        -* | '') ;;
        *) fail 2 "'$1' is neither server nor agent; sh $0 --help tells the usage" ;;
    esac
    words='' has_config='' has_server=${KILN_URL:-} data=${KILN_DATA_DIR:-/var/lib/kiln}
    while [ $# -gt 0 ]; do
        word=$1
        shift
        case $word in
            # Others could see it among a process's arguments.
            --token | -t)
                [ $# -gt 0 ] || fail 2 "$word wants a value"
                KILN_TOKEN=$1
                export KILN_TOKEN
                shift
                continue
                ;;
            --token=*)
                KILN_TOKEN=${word#*=}
                export KILN_TOKEN
                continue
                ;;
            --data-dir | -d) data=${1:-} ;;
            --data-dir=*) data=${word#*=} ;;
            --config | --config=*) has_config=yes ;;
            --server | --server=* | -s) has_server=yes ;;
        esac
        words="$words $(quote "$word")"
    done
    [ ! -f "$ETC/config.toml" ] || has_server=yes
    if [ "$role" = agent ] && [ -z "$has_server$has_config" ]; then
        fail 2 'an agent needs its server: give --server URL, or set KILN_URL'
    fi
}

# Writes a file whole.
write() { # path, mode; the content on standard input
    umask 077
    cat >"$1.new" || fail 6 "cannot write $1"
    chmod "$2" "$1.new"
    mv -f "$1.new" "$1"
    umask 022
}

write_settings() {
    mkdir -p "$ETC"
    env | while IFS= read -r line; do
        name=${line%%=*}
        case $name in
            KILN_* | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | http_proxy | https_proxy | no_proxy)
                printf '%s=%s\n' "$name" "$(quote "${line#*=}")"
                ;;
        esac
    done | write "$ETC/kiln.env" 600
    write "$ETC/start" 700 <<END
#!/bin/sh
# What the service runs. Written by the installer; variables are in kiln.env, and further flags may stand in config.toml.
set -a
. $ETC/kiln.env
set +a
set -- $role$words
END
    if [ -z "$has_config" ]; then
        # Written as they are.
        # shellcheck disable=SC2016
        printf '%s\n' "[ ! -f $ETC/config.toml ] || set -- \"\$@\" --config $ETC/config.toml" >>"$ETC/start"
    fi
    cat >>"$ETC/start" <<END
# Certificate authorities for registries, where the system has none.
for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
    [ ! -f "\$file" ] || exec $BIN/kiln "\$@"
done
SSL_CERT_FILE=\${SSL_CERT_FILE:-$LIB/ca-certificates.crt} exec $BIN/kiln "\$@"
END
}

# Notes for the removal how this was installed.
write_note() {
    write "$ETC/installed" 644 <<END
INIT=$init
DATA=$(quote "$data")
END
}

# Notes, before anything of ours has run, what it changes of the kernel's settings.
note_settings() {
    [ ! -f "$ETC/settings" ] || return 0
    for file in "$NET"/ipv4/ip_forward "$NET"/ipv6/conf/all/forwarding "$NET"/ipv6/conf/*/accept_ra "$NET"/ipv6/conf/*/proxy_ndp \
        "$NET"/bridge/bridge-nf-call-ip*tables; do
        [ ! -f "$file" ] || printf '%s %s\n' "$file" "$(cat "$file")"
    done | write "$ETC/settings" 644
}

unpack() {
    rm -rf "$LIB.new"
    mkdir -p "$LIB.new" "$BIN" || fail 6 "cannot write below /usr/local"
    tail -n "+$PAYLOAD" "$0" | gzip -dc | tar -xf - -C "$LIB.new" || fail 6 "cannot unpack to $LIB.new"
    [ -f "$LIB.new/version" ] || fail 6 "cannot unpack to $LIB.new"
}

swap() {
    rm -rf "$LIB.old"
    [ ! -d "$LIB" ] || mv "$LIB" "$LIB.old"
    mv "$LIB.new" "$LIB"
    rm -rf "$LIB.old"
    ln -sf ../lib/kiln/bin/kiln "$BIN/kiln"
    ln -sf ../lib/kiln/uninstall "$BIN/kiln-uninstall"
}

install_service() {
    enable=yes
    [ "${INSTALL_KILN_SKIP_ENABLE:-}" != true ] || enable=''
    case $init in
        systemd)
            write "$UNIT" 644 <"$LIB/init/kiln.service"
            systemctl daemon-reload
            [ -z "$enable" ] || systemctl enable kiln.service >/dev/null
            ;;
        openrc)
            write "$OPENRC" 755 <"$LIB/init/kiln.openrc"
            [ -z "$enable" ] || rc-update add kiln default >/dev/null
            ;;
        none)
            [ -z "$enable" ] || say "no init system that starts services was found; have '$LIB/service start' run at boot"
            ;;
    esac
}

restart_service() {
    case $init in
        systemd)
            # A server is there within seconds; an agent may wait for its server for as long as it takes.
            [ "$role" = server ] || set -- --no-block
            systemctl restart "$@" kiln.service
            ;;
        openrc) rc-service --quiet kiln restart ;;
        none) "$LIB/service" restart ;;
    esac || fail 1 'the service did not start'
}

main() {
    case ${1:-} in
        -h | --help | help)
            usage
            exit 0
            ;;
        --version)
            say "$VERSION"
            exit 0
            ;;
    esac
    [ -f "$0" ] || fail 2 'run it from a file, as in: sh kiln-install.sh'
    [ "$(id -u)" = 0 ] || fail 2 'it must be root that installs'
    case $(uname -m) in
        @MACHINES@) ;;
        *) fail 3 "this file is for $ARCH, and this machine is $(uname -m)" ;;
    esac
    if command -v sha256sum >/dev/null; then
        found=$(tail -n "+$PAYLOAD" "$0" | sha256sum)
        [ "${found%% *}" = "$SHA256" ] || fail 3 "$0 is damaged; fetch it again"
    fi
    if [ $# = 0 ] && [ -n "${INSTALL_KILN_EXEC:-}" ]; then
        # It is words.
        # shellcheck disable=SC2086
        set -- $INSTALL_KILN_EXEC
    fi
    init=$(find_init)
    umask 022
    if [ $# = 0 ] && [ -z "${KILN_URL:-}" ] && [ -x "$ETC/start" ]; then
        role=kept
        unpack
        . "$ETC/installed"
        data=$DATA
    else
        parse "$@"
        unpack
        write_settings
    fi
    swap
    write_note
    note_settings
    install_service
    if [ "${INSTALL_KILN_SKIP_START:-}" = true ]; then
        say "$VERSION is installed"
        return
    fi
    restart_service
    say "$VERSION is installed and started"
    if [ "$role" = server ]; then
        say "for kubectl: mkdir -p ~/.kube && kiln kubeconfig --data-dir $data > ~/.kube/config"
        say "for agents:  kiln token create --data-dir $data"
    fi
}

main "$@"
exit
