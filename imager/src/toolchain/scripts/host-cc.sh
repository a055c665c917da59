#!/bin/sh
# Links build scripts and procedural macros with the host's own compiler, which must not see the private libraries that
# rustc was started with.

unset LD_LIBRARY_PATH
exec cc "$@"
