# lib.sh: sourced by up, down, status, demo and by tests/run. A site is a folder in which one fleet lives:
# the broker's and Redis' data, logs, and a note of every process started, so that what was started is
# also what is stopped, and nothing else. Everything is below .darkroom of the checkout.
#
# A process that does not come up, or dies, is told with the end of its log; every wait has an end.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
STATE=$ROOT/.darkroom
BUILD=${BUILD:-$STATE/build}
JARS=$STATE/kafka-libs
STAGES=(preprocess store batch train deploy predict)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# ---- what the machine must have

BUILD_PACKAGES=(build-essential cmake ninja-build pkg-config librdkafka-dev libpng-dev libhiredis-dev
                libopenblas-dev libcjson-dev libmicrohttpd-dev libssl-dev libjemalloc-dev libprotobuf-c-dev
                protobuf-c-compiler libisal-dev)

# packages NAME...: installs those that are missing. COMMAND=NAME is missing when there is no such command.
packages() {
    local each missing=() as=()
    for each in "$@"; do
        if [[ $each == *=* ]]; then
            have "${each%%=*}" || missing+=("${each#*=}")
        elif have dpkg-query && ! dpkg-query -W -f '${Status}' "$each" 2>/dev/null | grep -q 'ok installed'; then
            missing+=("$each")
        fi
    done
    ((${#missing[@]})) || return 0
    have apt-get || die "no apt-get here; install what Debian calls: ${missing[*]}"
    if ((EUID)); then
        have sudo || die "run as root, or install first: apt-get install ${missing[*]}"
        as=(sudo)
    fi
    say "installing ${missing[*]}"
    mkdir -p "$STATE"
    if ! { "${as[@]}" apt-get update && "${as[@]}" env DEBIAN_FRONTEND=noninteractive \
           apt-get install -y --no-install-recommends "${missing[@]}"; } >"$STATE/install.log" 2>&1; then
        tail -n 15 "$STATE/install.log" >&2
        die "could not install ${missing[*]} (all of it: $STATE/install.log)"
    fi
}

packages_to_build() { packages "${BUILD_PACKAGES[@]}"; }

packages_to_run() {
    local need=(kcat=kcat jq=jq redis-cli=redis-tools)
    [[ ${DARKROOM_REDIS_URL:-} ]] || need+=(redis-server=redis-server)
    [[ ${DARKROOM_KAFKA_BOOTSTRAP_SERVERS:-} ]] || need+=(java=default-jre-headless mvn=maven)
    packages "${need[@]}"
}

# build DIR [CMAKE-ARGUMENT...]: configures and builds there; what is up to date costs a second.
build() {
    local dir=$1; shift
    say "building in ${dir#"$ROOT"/}"
    mkdir -p "$dir"
    if ! { cmake -S "$ROOT" -B "$dir" -G Ninja "$@" && cmake --build "$dir"; } >"$dir/build.log" 2>&1; then
        grep -E -m 20 'error|warning|FAILED|CMake Error' "$dir/build.log" >&2 || tail -n 20 "$dir/build.log" >&2
        say "the build failed (all of it: $dir/build.log)" >&2
        return 1
    fi
}

# python_clients: a virtual environment with independent clients and readers.
python_clients() {
    local dir=$STATE/venv
    cmp -s "$ROOT/tests/live/requirements.txt" "$dir/requirements.txt" && return
    say "getting Python clients of Kafka and Redis, and readers of what darkroom models writes"
    { python3 -m venv "$dir" && timeout 300 "$dir/bin/pip" install -q -r "$ROOT/tests/live/requirements.txt"; } \
        >"$STATE/pip.log" 2>&1 || { tail -n 5 "$STATE/pip.log" >&2; return 1; }
    cp "$ROOT/tests/live/requirements.txt" "$dir/"
}

# ---- a site and its processes

# site DIR: the functions below work in it from now on.
site() {
    SITE=$1
    mkdir -p "$SITE/logs" "$SITE/pids"
}

# site_lock: one command at a time works on a site; the lock goes with this shell.
site_lock() {
    exec 9>"$SITE/lock"
    flock -n 9 || die "another command is at work in $SITE"
}

# A pid may be given anew by the system: the time when the process began, in clock ticks, tells them apart.
proc_began() { sed -n 's/.*) //; /^Z/!p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# proc_alive NAME: leaves its pid in $pid.
proc_alive() {
    local began
    [[ -s $SITE/pids/$1 ]] && read -r pid began <"$SITE/pids/$1" &&
        [[ $began && $(proc_began "$pid") == "$began" ]]
}

# proc_start NAME COMMAND...: in the background, out of reach of the terminal's Ctrl-C.
proc_start() {
    local name=$1; shift
    proc_alive "$name" && return
    setsid "$@" >>"$SITE/logs/$name.log" 2>&1 </dev/null 9>&- &
    echo "$! $(proc_began $!)" >"$SITE/pids/$name"
    disown
}

# procs_stop SECONDS NAME...: asks all of them at once, then kills those that are left after SECONDS.
procs_stop() {
    local name seconds=$1; shift
    for name in "$@"; do
        if proc_alive "$name"; then kill "$pid" 2>/dev/null || true; fi
    done
    for name in "$@"; do
        wait_for "$seconds" proc_gone "$name" || {
            say "$name did not stop within $seconds s: killed"
            proc_alive "$name" && kill -9 "$pid" 2>/dev/null || true
        }
        rm -f "$SITE/pids/$name"
    done
}
proc_gone() { ! proc_alive "$1"; }

proc_names() { (cd "$SITE/pids" && ls); }

# log_tail NAME: what a process said last, on stderr.
log_tail() {
    say "the end of $SITE/logs/$1.log:" >&2
    tail -n 12 "$SITE/logs/$1.log" 2>/dev/null | cut -c 1-300 | sed 's/^/    /' >&2
}

# proc_ready NAME SECONDS COMMAND...: until the command succeeds; dies with the log's end when it does not.
proc_ready() {
    local name=$1 end=$((SECONDS + $2)) limit=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        proc_alive "$name" || { log_tail "$name"; die "$name ended while it was starting"; }
        ((SECONDS < end)) || { log_tail "$name"; die "$name was not ready within $limit s"; }
        sleep 0.2
    done
}

# ---- ports

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# port NAME FIRST: the port that NAME has in this site: the one it had before, or, if that is taken or there
# is none, the first from FIRST on that nobody listens on and that the site has not given to another.
port() {
    local file=$SITE/ports/$1 port
    mkdir -p "$SITE/ports"
    if [[ -s $file ]]; then
        port=$(<"$file")
        if proc_alive "$1" || ! port_open "$port"; then echo "$port"; return; fi
    fi
    port=$2
    while port_open "$port" || grep -qsx "$port" "$SITE"/ports/*; do port=$((port + 1)); done
    echo "$port" | tee "$file"
}

# http_get PORT PATH: prints the body; fails unless the answer is a 200.
http_get() {
    local answer
    answer=$(
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
        timeout 5 cat <&3
    ) 2>/dev/null || return 1
    [[ $answer == HTTP/1.?\ 200* ]] && printf '%s\n' "${answer#*$'\r\n\r\n'}"
}

# ---- Kafka and Redis

kafka_fetch() {
    [[ -e $JARS/.complete ]] && return
    say "getting Kafka from Maven Central"
    mkdir -p "$JARS"
    if ! timeout 900 mvn -B -ntp -f "$ROOT/deploy/local/kafka/pom.xml" \
            org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$JARS" >"$STATE/maven.log" 2>&1; then
        grep ERROR "$STATE/maven.log" | head -n 5 >&2
        die "could not get Kafka (all of it: $STATE/maven.log)"
    fi
    touch "$JARS/.complete"
}

kafka_answers() { timeout 5 kcat -b "$1" -L -m 2; }

# kafka_start DIR PORT [PROPERTY...]: a broker of our own with its data in DIR, and a free port for its controller.
# The properties come after those of server.properties.in, and win; they may have its marks. It shares the cores
# with the fleet: without C2, whose compiling takes a core for much of the first minute, and with the simplest collector,
# training beside it is a tenth faster, while records pass up to a fifth slower. Kafka's own variables say otherwise.
kafka_start() {
    local dir=$1 port=$2 options java=(java -cp "$JARS/*" "-Dlog4j2.configurationFile=file:$ROOT/deploy/local/kafka/log4j2.xml")
    shift 2
    if ! proc_alive kafka; then
        mkdir -p "$dir"
        { cat "$ROOT/deploy/local/kafka/server.properties.in"; printf '%s\n' "$@"; } |
            sed -e "s|@PORT@|$port|; s|@CONTROLLER_PORT@|$(port controller $((port + 1)))|; s|@DATA@|$dir/data|" \
                >"$dir/server.properties"
        [[ -e $dir/data/meta.properties ]] ||
            "${java[@]}" kafka.tools.StorageTool format --standalone \
                -t "$("${java[@]}" kafka.tools.StorageTool random-uuid 2>/dev/null | tail -n 1)" \
                -c "$dir/server.properties" >"$SITE/logs/kafka.log" 2>&1 ||
            { log_tail kafka; die "could not format Kafka's data folder $dir/data"; }
        read -ra options <<<"${KAFKA_HEAP_OPTS:--Xms256m -Xmx1g} ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
        proc_start kafka "${java[@]}" "${options[@]}" kafka.Kafka "$dir/server.properties"
    fi
    proc_ready kafka 90 kafka_answers "127.0.0.1:$port"
}

redis_answers() { [[ $(timeout 5 redis-cli -p "$1" ping) == PONG ]]; }

# redis_start DIR PORT [ARGUMENT...]: a server of our own that keeps what it is told: append-only file, nothing evicted.
redis_start() {
    local dir=$1 port=$2; shift 2
    mkdir -p "$dir"
    proc_start redis redis-server --bind 127.0.0.1 --port "$port" --dir "$dir" --save '' --daemonize no \
        --appendonly yes --appendfsync everysec --auto-aof-rewrite-min-size 512mb --maxmemory-policy noeviction "$@"
    proc_ready redis 60 redis_answers "$port"
}

# named VARIABLE NAME: the environment names a server that is not this site's own NAME.
named() { [[ ${!1:-} && ${!1} != *127.0.0.1:$(cat "$SITE/ports/$2" 2>/dev/null || echo none)* ]]; }

# world_start KAFKA-PORT REDIS-PORT: the broker and the Redis that the environment names, or our own from these
# ports on. Exports where they are, and writes it to $SITE/env for other shells.
world_start() {
    local number
    if named DARKROOM_KAFKA_BOOTSTRAP_SERVERS kafka; then
        kafka_answers "$DARKROOM_KAFKA_BOOTSTRAP_SERVERS" >/dev/null ||
            die "no broker answers at $DARKROOM_KAFKA_BOOTSTRAP_SERVERS (DARKROOM_KAFKA_BOOTSTRAP_SERVERS)"
        say "kafka   $DARKROOM_KAFKA_BOOTSTRAP_SERVERS, not ours"
    else
        kafka_fetch
        number=$(port kafka "$1")
        kafka_start "$SITE/kafka" "$number"
        export DARKROOM_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:$number
        say "kafka   $DARKROOM_KAFKA_BOOTSTRAP_SERVERS"
    fi
    if named DARKROOM_REDIS_URL redis; then
        say "redis   ${DARKROOM_REDIS_URL##*@}, not ours"
    else
        number=$(port redis "$2")
        redis_start "$SITE/redis" "$number"
        export DARKROOM_REDIS_URL=redis://127.0.0.1:$number/0
        say "redis   $DARKROOM_REDIS_URL"
    fi
    export DARKROOM_PREFIX=${DARKROOM_PREFIX:-darkroom.}
    export PATH=$BUILD:$PATH
    rm -f "$SITE/env"
    (
        umask 077 # there may be a password in it
        exec >"$SITE/env"
        printf 'export DARKROOM_KAFKA_BOOTSTRAP_SERVERS=%q\n' "$DARKROOM_KAFKA_BOOTSTRAP_SERVERS"
        printf 'export DARKROOM_REDIS_URL=%q\n' "$DARKROOM_REDIS_URL"
        printf 'export DARKROOM_PREFIX=%q\n' "$DARKROOM_PREFIX"
        printf 'export PATH=%q:"$PATH"\n' "$BUILD"
    )
}

# ---- the fleet

# worker_start STAGE NUMBER [SETTING=VALUE...]: darkroom-STAGE as instance STAGE-NUMBER, with a probe of its own.
worker_start() {
    local stage=$1 name=$1-$2 probe; shift 2
    proc_alive "$name" && return
    probe=$(port "$name" "${PROBE_PORT:-9401}")
    proc_start "$name" env "DARKROOM_INSTANCE=$name" "DARKROOM_PROBE=127.0.0.1:$probe" "$@" "$BUILD/darkroom-$stage"
}

worker_ready() { http_get "$(<"$SITE/ports/$1")" /readyz; }

# fleet_names: the workers of this site, in the order of the flow.
fleet_names() {
    local stage
    for stage in "${STAGES[@]}"; do (cd "$SITE/pids" && ls -d "$stage"-* 2>/dev/null) || true; done
}

# fleet_targets: where the workers answer, for Prometheus, in a file that it follows. A fleet that was stopped on
# purpose answers nowhere, and nobody is to be told that its workers are down.
fleet_targets() {
    local each
    for each in $(fleet_names); do echo "127.0.0.1:$(<"$SITE/ports/$each")"; done |
        jq -R . | jq -sc '[{targets: .}]' >"$SITE/workers.json"
}

# fleet_start: WORKERS_<STAGE> of each stage (one unless set), and waits until all are ready.
fleet_start() {
    local stage count each
    for stage in "${STAGES[@]}"; do
        count=WORKERS_${stage^^}
        for ((each = 1; each <= ${!count:-1}; each++)); do worker_start "$stage" "$each"; done
    done
    for each in $(fleet_names); do proc_ready "$each" 60 worker_ready "$each"; done
    fleet_targets
    say "workers $(fleet_names | paste -sd' ')"
}

# board_start: keeps $SITE/tensorboard up to date while the fleet runs.
board_start() { proc_start board "$BUILD/darkroom" models tensorboard "$SITE/tensorboard" --follow; }

# board_say: how to look at it.
board_say() {
    say "board   $SITE/tensorboard"
    say "        python3 -m venv tb && tb/bin/pip install -q tensorboard && tb/bin/tensorboard --logdir $SITE/tensorboard"
}

# site_stop: first the workers, which drain, then what they need.
site_stop() {
    procs_stop 15 $(fleet_names)
    procs_stop 15 $(proc_names)
    [[ ! -e $SITE/workers.json ]] || fleet_targets
}
