#!/bin/sh
# Runs the chosen rustc so that its output depends on the sources and the toolchain only: not on where the checkout, the
# crates or the cache lie, not on the user, and not on the version of cargo.
#
# KILN_RUSTC is the compiler; KILN_LIBS, if set, where its shared libraries are; KILN_SYSROOT, if set, its sysroot.

# Cargo derives `-C metadata` from absolute paths (for the standard library's crates) and from its own version; it goes
# into every symbol's name and so into the binary's layout. Its place takes a digest of what tells crates apart: name and
# version of package and crate, features, target, and whether the crate belongs to the standard library.
crate= target= features= previous=
for argument do
    case $previous in
    --crate-name) crate=$argument ;;
    --target) target=$argument ;;
    --cfg) case $argument in feature=*) features="$features $argument" ;; esac ;;
    esac
    previous=$argument
done

if [ -n "$crate" ] && [ -n "$CARGO_MANIFEST_DIR" ]; then
    case $CARGO_MANIFEST_DIR in
    */lib/rustlib/src/rust/*|*/src/rustc-*/library*) origin=std ;;
    *) origin=crate ;;
    esac
    place=/$origin/$CARGO_PKG_NAME-$CARGO_PKG_VERSION
    digest=$(printf '%s\n' "$place" "$crate" "$target" "$features" | sha256sum) || exit 1
    digest=$(printf '%.16s' "$digest")
    for argument do
        shift
        case $argument in metadata=*) argument=metadata=$digest ;; esac
        set -- "$@" "$argument"
    done
    # The last prefix that matches wins: generated code lies in OUT_DIR, which may lie below the package.
    set -- "$@" --remap-path-prefix "$PWD=/kiln" --remap-path-prefix "$CARGO_MANIFEST_DIR=$place"
    if [ -n "$OUT_DIR" ]; then
        set -- "$@" --remap-path-prefix "$OUT_DIR=/out$place"
    fi
fi

if [ -n "$KILN_SYSROOT" ]; then
    set -- "$@" --sysroot "$KILN_SYSROOT"
fi
if [ -n "$KILN_LIBS" ]; then
    LD_LIBRARY_PATH=$KILN_LIBS
    export LD_LIBRARY_PATH
fi
exec "$KILN_RUSTC" "$@"
