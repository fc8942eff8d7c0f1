# Sourced by the scripts of this project: a virtual environment with the package, and pw.x where it can be had.
#
#   GAPRSS_VENV   folder of the environment (default: .venv in the project's folder)
#   PYTHON        python that makes it (default: python3.11 or 3.10 if there is one, else python3)

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.10 python3; do
        # A command of that name may exist and still not run (version managers).
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.10 or later is needed; set PYTHON to one" >&2
    return 1
}

# use_environment EXTRAS: make the environment if it is not there, install the package with these extras, put it on PATH.
use_environment() {
    local venv=${GAPRSS_VENV:-$project/.venv} python
    if [ ! -x "$venv/bin/python" ]; then
        python=$(find_python)
        echo "making $venv with $("$python" --version)"
        "$python" -m venv "$venv"
    fi
    export PATH="$venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
    unset PYTHONPATH
    if [ "$(cat "$venv/.gaprss-installed" 2>/dev/null)" != "$1 $(md5sum < "$project/pyproject.toml")" ]; then
        echo "installing aiida-gaprss${1:+[$1]} (a minute or two)"
        python -m pip install --quiet --editable "$project${1:+[$1]}"
        echo "$1 $(md5sum < "$project/pyproject.toml")" > "$venv/.gaprss-installed"
    fi
}

# find_pw: make sure that pw.x is there; installs Debian's package if this is root on Debian or Ubuntu.
find_pw() {
    if ! command -v pw.x >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Debian's quantum-espresso"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends quantum-espresso; } >/dev/null 2>&1 || true
    fi
    if ! command -v pw.x >/dev/null; then
        echo "pw.x not found; on Debian or Ubuntu: apt-get install quantum-espresso" >&2
        return 1
    fi
}

# find_pseudopotential NAME FOLDER: copy a published pseudopotential of Debian's quantum-espresso-data into a folder.
find_pseudopotential() {
    local published=/usr/share/espresso/pseudo/$1
    if [ ! -f "$published" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Debian's quantum-espresso-data, for its pseudopotentials"
        apt-get install -y -qq --no-install-recommends quantum-espresso-data >/dev/null 2>&1 || true
    fi
    if [ ! -f "$published" ]; then
        echo "$published not found; on Debian or Ubuntu: apt-get install quantum-espresso-data" >&2
        return 1
    fi
    mkdir -p "$2"
    cp "$published" "$2/"
}

# work_in FOLDER FILE...: make the working folder $work ($GAPRSS_WORK, or FOLDER/work) of an example, with copies of these files.
work_in() {
    work=${GAPRSS_WORK:-$1/work}
    shift
    mkdir -p "$work"
    cp "$@" "$work/"
}

# keep_aiida_in FOLDER: make the AiiDA profile there, unless AIIDA_PATH says where.
keep_aiida_in() {
    if [ -z "${AIIDA_PATH:-}" ]; then
        export AIIDA_PATH=$1
        mkdir -p "$AIIDA_PATH"
        echo "AiiDA lives in $AIIDA_PATH; to look around later: export AIIDA_PATH=$AIIDA_PATH"
    fi
}

# search_with_pw FOLDER SEED PSEUDOPOTENTIAL...: run the campaign.yaml of an example with pw.x and published pseudopotentials.
search_with_pw() {
    local here=$1 seed=$2 name
    shift 2
    use_environment qe
    find_pw
    work_in "$here" "$here"/*.yaml "$here/targets.extxyz"
    for name in "$@"; do
        find_pseudopotential "$name" "$work/pseudo"
    done
    keep_aiida_in "$work/aiida"
    aiida-gaprss setup
    aiida-gaprss run "$work/campaign.yaml" --seed "$seed" --report "$work/report-seed$seed"
}
