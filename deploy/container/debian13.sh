# debian13.sh: sourced, after lib.sh, by build and by tests/debian13. A Debian 13 in a folder of its own, made with
# mmdebstrap: with compiler and libraries of this machine's architecture, or with a cross compiler and the
# libraries of another's. Needs root, and apt sources of Debian on the machine.

# debian_sources: lines for apt, of Debian 13 with its security fixes, from the mirrors that this machine uses.
debian_sources() {
    local main security
    targets() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" | head -n 1; }
    main=$(targets Debian) security=$(targets Debian-Security)
    [[ $main ]] || die "no Debian mirror among the sources of apt: run apt-get update first"
    echo "deb $main trixie main"
    echo "deb $main trixie-updates main"
    echo "deb ${security:-${main%debian/}debian-security/} trixie-security main"
}

# debian_packages ARCH: what a root has that builds and tests here, or builds for another architecture.
debian_packages() {
    local each
    for each in "${BUILD_PACKAGES[@]}" python3; do
        [[ $1 == "$(dpkg --print-architecture)" || $each != lib*-dev ]] || each+=:$1
        echo "$each"
    done
    echo ca-certificates:all
    case $1 in
    "$(dpkg --print-architecture)") printf '%s\n' libcmocka-dev redis-server openssl ;;
    arm64) printf '%s\n' gcc-aarch64-linux-gnu openssl ;;
    amd64) printf '%s\n' gcc-x86-64-linux-gnu openssl ;;
    esac
}

# debian_root DIR ARCH SOURCES: makes DIR unless it has what is wanted and is younger than a day, so that no fix of
# Debian's is missed for longer. SOURCES is a file with apt's lines.
debian_root() {
    local dir=$1 arch=$2 sources=$3 native want
    native=$(dpkg --print-architecture)
    want=$(debian_packages "$arch"; cat "$sources")
    [[ $(cat "$dir/.complete" 2>/dev/null) == "$want" && $(find "$dir/.complete" -mmin -1440) ]] && return
    say "making a Debian 13 from $(sed -n 's/^deb \([^ ]*\).*/\1/p; q' "$sources")"
    rm -rf --one-file-system "$dir"
    # Its mounts end with it, even when it is killed.
    unshare --mount mmdebstrap --variant=apt --architectures="$native$([[ $arch == "$native" ]] || echo ",$arch")" \
        --include="$(debian_packages "$arch" | paste -sd,)" trixie "$dir" "$sources" >"$SITE/logs/mmdebstrap.log" 2>&1 ||
        { log_tail mmdebstrap; die "could not make it"; }
    echo "$want" >"$dir/.complete"
}

# checkout WORD...: git in this checkout, whoever owns it.
checkout() { git -c "safe.directory=$ROOT" -C "$ROOT" "$@"; }

# debian_source DIR: this checkout, as it is, becomes /src in it.
debian_source() {
    rm -rf --one-file-system "$1/src"
    mkdir -p "$1/src"
    checkout ls-files -co --exclude-standard -z |
        tar -C "$ROOT" --null --no-recursion --ignore-failed-read -T - -cf - | tar -xf - -C "$1/src"
}

# debian_run DIR [NAME=VALUE...]: runs the script on its standard input there, with mounts that end with it.
debian_run() {
    unshare --mount --pid --fork --kill-child sh -euc '
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@" \
            bash -eu -o pipefail' sh "$@"
}
