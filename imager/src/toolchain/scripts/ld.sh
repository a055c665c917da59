#!/bin/sh
# Runs the chosen lld for the target. KILN_LD is the linker; KILN_LIBS, if set, where its shared libraries are.

if [ -n "$KILN_LIBS" ]; then
    LD_LIBRARY_PATH=$KILN_LIBS
    export LD_LIBRARY_PATH
fi
exec "$KILN_LD" "$@"
