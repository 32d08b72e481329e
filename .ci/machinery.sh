# How steps run. A script that sources this defines `prepare` for what all steps need and
# `step_NAME` for each step, and then calls `run_steps`.
#
# Three steps run at a time, since most of them wait more than they compute. Each is a
# process, works on a copy of what git tracks, with the edits of the working tree, and
# shows its output when it ends. The first one that fails ends the run, and with the run
# ends all that its steps have left running.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
group=

# What the caller has set for other programs must not change what is tested. Only where
# pip finds packages, and how it gets there, is the machine's.
for name in $(compgen -e); do
    case $name in
    PIP_*INDEX* | PIP_FIND_LINKS | PIP_*HOST | PIP_CONFIG_FILE | PIP_*CERT) ;;
    PIP_PROXY | PIP_CACHE_DIR | PIP_*TIMEOUT | PIP_RETRIES) ;;
    PIP_* | PYTEST_* | PYTHON?* | HYPOTHESIS_* | COVERAGE_* | MYPY* | RUFF_*) unset "$name" ;;
    esac
done
unset name VIRTUAL_ENV NODE_PATH
export CI=true PIP_DISABLE_PIP_VERSION_CHECK=1

copy() { # copy NAME: a fresh copy of what git tracks, without deleted files, in $here
    here=$work/$1
    mkdir "$here"
    { git -C "$checkout" ls-files && git -C "$checkout" ls-files --deleted; } |
        sort | uniq -u | tar -C "$checkout" -T - -cf - | tar -C "$here" -xf -
    cd "$here"
}

missing() { # missing PART: notes that it is skipped; False where it must run
    echo "$step: no $1 here: what needs it is skipped" | tee -a "$work/skipped"
    case " ${MUST_RUN:-} " in
    *" $step:$1 "*) echo 'MUST_RUN names it.' && return 1 ;;
    esac
}

tested() { # tested PYTEST...: two tests of a run may fail at first, on a busy machine
    # They run again with all of their files in the same order, so that a test fails
    # again if it depends on another one.
    local status=0 failed
    "$@" 2>&1 | tee "$work/$step.pytest" || status=$?
    sed -n "s/^SKIPPED/$step: &/p" "$work/$step.pytest" >>"$work/skipped"
    [ "$status" = 1 ] || return "$status" # a leak, which the canary finds, is never forgiven
    failed=$(sed -n 's/^ *"\(.*\)": true,*$/\1/p' .pytest_cache/v/cache/lastfailed)
    sed "s/^/$step: /" <<<"$failed" >>"$work/again"
    [ "$(wc -l <"$work/again")" -le 2 ] || return 1
    echo '!!! Failed. Once more, with the rest of the file:'
    "$@" --randomly-seed=last -o testpaths="$(sed 's/::.*//' <<<"$failed" | sort -u | xargs)"
}

one_step() { # one_step NAME: in a process of its own
    step=$1
    exec 3>&1
    [ "$(wc -l <"$work/steps")" = 1 ] || exec >"$work/$step.output" 2>&1
    printf '\n========== %s ==========\n' "$step"
    trap 'trap - EXIT; exit 143' TERM # another one has failed
    trap 'ended $?' EXIT
    "step_$step"
}

ended() { # ended STATUS
    trap '' TERM
    until mkdir "$work/turn" 2>/dev/null; do sleep 0.1; done # to show it in one piece
    [ ! -e "$work/$step.output" ] || cat "$work/$step.output" >&3
    printf '%-12s %4d s\n' "$step" "$SECONDS" >>"$work/times"
    [ "$1" = 0 ] || { echo "$step failed" >>"$work/failed" && kill "$PPID"; }
    rmdir "$work/turn"
}

run_steps() { # run_steps STEP...
    if [ "$1" = --one ]; then
        work=$WORK
        one_step "$2"
        return
    fi
    work=$(mktemp -d)
    export WORK=$work
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    prepare
    printf '%s\n' "$@" >"$work/steps"
    set -m # a process group of its own
    xargs -n 1 -P 3 bash "$0" --one <"$work/steps" &
    set +m
    group=$!
    wait "$group"
}

finish() {
    local status=$? untracked what
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$group" ] && kill -TERM -- "-$group" 2>/dev/null; then
        sleep 1
        kill -KILL -- "-$group" 2>/dev/null || true
    fi
    if [ ! -e "$work/failed" ]; then
        [ "$status" = 0 ] && what='all passed' || what=interrupted
    else
        what=$(cat "$work/failed")
        status=1
    fi
    printf '\n========== %s ==========\n' "$what"
    cat "$work/times" 2>/dev/null || true
    printf '%-12s %4d s\n' all "$SECONDS"
    untracked=$(git -C "$checkout" ls-files --others --exclude-standard) || true
    [ -z "$untracked" ] ||
        printf '\nNot tracked by git, so neither tested nor built:\n%s\n' "$untracked"
    [ ! -s "$work/skipped" ] || { printf '\nSkipped:\n' && sort -u "$work/skipped"; }
    [ ! -e "$work/again" ] || { printf '\nFailed at first:\n' && cat "$work/again"; }
    rm -rf "$work"
    exit "$status"
}
