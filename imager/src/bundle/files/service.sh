#!/bin/sh
# Starts, watches over and stops Kiln on a machine whose init system starts no services.
# Usage: service start|stop|restart|status
set -u

PID=/run/kiln.pid
LOG=/var/log/kiln.log
# A log that is longer, in bytes, begins anew; the one before is kept.
LIMIT=8388608

alive() {
    [ -f "$PID" ] && read -r pid <"$PID" && grep -q lib/kiln/service "/proc/$pid/cmdline" 2>/dev/null
}

# Starts Kiln again whenever it ends, until a signal comes.
supervise() {
    child='' stopping=''
    trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
    echo $$ >"$PID"
    while [ -z "$stopping" ]; do
        if [ "$(wc -c <"$LOG" 2>/dev/null || echo 0)" -gt "$LIMIT" ]; then
            mv -f "$LOG" "$LOG.1"
        fi
        /etc/kiln/start >>"$LOG" 2>&1 &
        child=$!
        # A signal ends the wait and not the child.
        while kill -0 "$child" 2>/dev/null; do wait "$child"; done
        [ -z "$stopping" ] || break
        sleep 5 &
        child=$!
        wait "$child"
    done
    rm -f "$PID"
}

start() {
    alive && return 0
    rm -f "$PID"
    detach=nohup
    ! command -v setsid >/dev/null || detach=setsid
    "$detach" "$0" supervise </dev/null >/dev/null 2>&1 &
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        alive && return 0
        sleep 1
    done
    echo 'kiln: it did not start' >&2
    return 1
}

stop() {
    alive || return 0
    kill -TERM "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        alive || return 0
        sleep 1
    done
    echo 'kiln: it does not stop' >&2
    return 1
}

case ${1:-} in
    start) start ;;
    stop) stop ;;
    restart) stop && start ;;
    status)
        if alive; then echo "kiln runs, watched over by process $pid"; else echo 'kiln does not run' && exit 3; fi
        ;;
    supervise) supervise ;;
    *)
        echo "usage: $0 start|stop|restart|status" >&2
        exit 2
        ;;
esac
