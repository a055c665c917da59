#!/bin/sh
# Runs the chosen C compiler for the target, with paths kept out of its output.
#
# KILN_CC is the compiler; KILN_CC_ARGS its fixed arguments, one a line; KILN_CC_ZIG is set when it is zig, which knows
# its target from these and no other spelling; KILN_LIBS, if set, is where its libraries are.

if [ -n "$KILN_CC_ZIG" ]; then
    for argument do
        shift
        case $argument in --target=* | -march=* | -mfpu=*) continue ;; esac
        set -- "$@" "$argument"
    done
fi
newline='
'
set -f
saved=$IFS
IFS=$newline
# shellcheck disable=SC2086  # split at the newlines, and only there
set -- $KILN_CC_ARGS "$@"
IFS=$saved
if [ -n "$CARGO_MANIFEST_DIR" ]; then
    set -- "$@" "-ffile-prefix-map=$CARGO_MANIFEST_DIR=/crate/$CARGO_PKG_NAME-$CARGO_PKG_VERSION"
fi
if [ -n "$OUT_DIR" ]; then
    set -- "$@" "-ffile-prefix-map=$OUT_DIR=/out/crate/$CARGO_PKG_NAME-$CARGO_PKG_VERSION"
fi
if [ -n "$KILN_LIBS" ]; then
    LD_LIBRARY_PATH=$KILN_LIBS
    export LD_LIBRARY_PATH
fi
exec "$KILN_CC" "$@"
