# shellcheck shell=bash
# Starting, watching and stopping processes, for `engines` and `dev`. Sourced; the caller sets `state`, the
# folder with run/ (pid and start time of what we started), ports/ (which port it has, also while it is down)
# and logs/.
# shellcheck disable=SC2154 # the caller's `state`

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# Makes the state folder and holds FILE in it: two commands at once would start everything twice.
lock_state() { # FILE
    mkdir -p "$state"/{run,ports,logs}
    exec {state_lock}>"$state/$1"
    flock -w 120 "$state_lock" || die "another command has been working in $state for two minutes"
}

need_space() { # FOLDER MEGABYTES
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] || die "the disk is nearly full: $1 has $free MB left, $2 MB are needed"
}

# A pid alone may have been given to somebody else since: with its start time it names one process for ever.
# (One that has ended and waits for its parent to notice has none.)
started_at() { awk '{ sub(/.*\) /, ""); if ($1 != "Z") print $20 }' "/proc/$1/stat" 2>/dev/null || true; }

alive() { # NAME
    local pid since
    [ -e "$state/run/$1" ] || return 1
    read -r pid since <"$state/run/$1" || return 1
    [ -n "$since" ] && [ "$(started_at "$pid")" = "$since" ]
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Whether another engine of ours, perhaps not yet started, was given the port.
promised() { grep -lx "$2" "$state"/ports/* 2>/dev/null | grep -qvx "$state/ports/$1"; }

# Sets `port` for NAME: the one asked for in VARIABLE, or the one from last time, or a free one.
choose_port() { # NAME VARIABLE
    local file=$state/ports/$1 wish=${!2:-}
    if [ -n "$wish" ]; then
        ! listens "$wish" || die "port $wish is taken by another process: set $2 to another one, or unset it"
        port=$wish
    else
        port=$(cat "$file" 2>/dev/null || true)
        # Below the range from which the kernel gives ports to outgoing connections.
        while [ -z "$port" ] || listens "$port" || promised "$1" "$port"; do port=$((20000 + RANDOM % 12000)); done
    fi
    printf '%s\n' "$port" >"$file"
}

port_of() { cat "$state/ports/$1"; }

# Starts COMMAND in a session of its own (a Ctrl-C is not for it), output to logs/NAME.log, pid to run/NAME.
launch() { # NAME COMMAND...
    local name=$1; shift
    need_space "$state" 200
    rm -f "$state/run/$name"
    # shellcheck disable=SC2016 # expanded by the inner shell, which then becomes the engine
    (cd / && exec setsid bash -c 'echo $$ >"$1.new"; shift; exec "$@"' - "$state/run/$name" "$@") \
        >"$state/logs/$name.log" 2>&1 </dev/null {state_lock}>&- &
    disown # else bash reports its end, in bash's words
    until [ -s "$state/run/$name.new" ]; do sleep 0.01; done
    local pid; pid=$(cat "$state/run/$name.new")
    printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$state/run/$name"
    rm "$state/run/$name.new"
}

# Polls until COMMAND succeeds; says why not when the process ends or a minute has passed.
await() { # NAME COMMAND...
    local name=$1 deadline=$((SECONDS + 60)); shift
    until "$@"; do
        alive "$name" || explain "$name" "ended while it started"
        [ "$SECONDS" -lt "$deadline" ] || explain "$name" "was not ready within a minute"
        sleep 0.05
    done
}

explain() { # NAME WHAT
    local log=$state/logs/$1.log
    say "${0##*/}: $1 $2. The end of $log:"
    tail -n 15 "$log" | sed 's/^/    /' >&2
    case $(tail -n 50 "$log") in
        *"No space left"*) die "the disk is full" ;;
        *"is in use by process"* | *"lock file"* | *"acquire lock"*) die "the data folder of $1 is in use by another process" ;;
        *"is taken"* | *"Address already in use"* | *"BindException"*) die "the port of $1 is taken by another process" ;;
        *"loading shared libraries"* | *"no engine library"*) die "a library is missing: remove the folder that 'deploy/local/engines libraries' prints, then start again" ;;
        *"OutOfMemory"* | *"Cannot allocate"*) die "there is not enough memory" ;;
        *) die "$1 does not run" ;;
    esac
}

# Ends NAME with SIGNAL, and after PATIENCE seconds without mercy. Only the very process that was started.
end() { # NAME SIGNAL [PATIENCE]
    local pid deadline=$((SECONDS + ${3:-30}))
    alive "$1" || { rm -f "$state/run/$1"; return 0; }
    read -r pid _ <"$state/run/$1"
    kill -s "$2" "$pid"
    while alive "$1"; do
        if [ "$SECONDS" -ge "$deadline" ]; then say "${0##*/}: $1 does not stop; killing it"; kill -s KILL "$pid"; deadline=$((SECONDS + 30)); fi
        sleep 0.05
    done
    rm -f "$state/run/$1"
}
