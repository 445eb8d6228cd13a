#!/bin/sh
# shellcheck disable=SC2016,SC2154 # awk's own dollars; TAB, NL and limited come from common.sh
#
# Passwords in files. Sent with the one call that asks; everything else of the script is there already.

# One line a file and key: P, key, account's name or nothing, path. Keys and names are made of letters, digits, dots, dashes and underscores alone;
# a path has neither a tab nor a newline in it, by find's own test. No value is ever printed. An account's name stands before or after its password,
# so it is told at the end of a file.
PASSWORDS_AWK='
function told(    i) {
    for (i = 1; i <= keys; i++) printf "P\t%s\t%s\t%s\n", key[i], name, path
    keys = 0
    name = ""
}
# The word at the end of TEXT, without quotes.
function word(text) {
    sub(/["'"'"' \t]*$/, "", text)
    sub(/^.*[^A-Za-z0-9_.-]/, "", text)
    return substr(text, 1, 64)
}
function note(what,    i) {
    for (i = 1; i <= keys; i++) if (key[i] == what) return
    if (keys < 4) key[++keys] = what
}
FNR == 1 { told(); path = FILENAME; lines = 0 }
{
    if (length($0) > 4000 || ++lines > 2000 || /^[ \t]*([#;]|\/\/)/) next
    at = match($0, /[:=]/)
    if (path ~ /\/\.?pgpass(\.conf)?$/ && split($0, part, ":") == 5 && part[5] != "") {
        note("password")
        if (part[4] ~ /^[A-Za-z_][A-Za-z0-9_.-]*$/) name = substr(part[4], 1, 32)
        next
    }
    if (match($0, /[a-z0-9+]+:\/\/[A-Za-z_][A-Za-z0-9_.-]*:[^@\/ \t]+@/)) {
        url = substr($0, RSTART, RLENGTH)
        # `Xmysql://` is another scheme.
        is_whole = RSTART == 1 || substr($0, RSTART - 1, 1) !~ /[A-Za-z0-9+.-]/
        value = url
        sub(/^[^:]*:\/\/[^:]*:/, "", value)
        if (value ~ /^[$<{%]/) next
        note(at < RSTART && word(substr($0, 1, at - 1)) != "" ? word(substr($0, 1, at - 1)) : "address")
        # Elsewhere (https, git+https) what stands before the colon may be the token itself.
        if (url ~ /^(postgres|postgresql|mysql|mariadb|mongodb|redis|rediss|amqp|amqps|ldap|ldaps):/ && is_whole) {
            sub(/^[^:]*:\/\//, "", url)
            sub(/:.*/, "", url)
            name = substr(url, 1, 32)
        }
        next
    }
    if (!at) next
    left = word(substr($0, 1, at - 1))
    value = substr($0, at + 1)
    gsub(/^["'"'"' \t]+|[]}"'"'"', \t\r]+$/, "", value)
    what = tolower(left)
    if (what ~ /(password|passwd|passphrase|secret|token|api[_-]?key)$/) {
        # A reference, a path, a switch or a sentence is no password.
        if (length(value) < 6 || value ~ /[ \t]/ || value ~ /^[$<{%*&!(\/~]/ || tolower(value) ~ /^(false|disabled|enabled|required|optional|prompt|changeme)$/) next
        note(left)
    } else if (what ~ /user(name)?$/ && value ~ /^[A-Za-z_][A-Za-z0-9_.-]*$/ && length(value) <= 32) name = value
}
END { told() }'

# undeclared: ends with Z, also where it was cut short. What is read may be changed under our hands into something endless: no more memory than a
# quarter of a GiB, and no search where nothing would end it.
undeclared() {
    command -v timeout >/dev/null 2>&1 && found_there
    echo "Z${TAB}undeclared"
}

found_there() (
    # shellcheck disable=SC3045 # where a shell has none, the search is made without
    ulimit -v 262144 2>/dev/null
    set --
    for folder in /etc /opt /srv /var/www /usr/local/etc /root /home; do
        [ ! -d "$folder" ] || set -- "$@" "$folder"
    done
    limited 4 find "$@" -xdev -maxdepth 6 -type f -size -129 ! -path "*$TAB*" ! -path "*$NL*" \( -name '*.env' -o -name '.env*' -o -name '*.ini' -o \
        -name '*.conf' -o -name '*.cnf' -o -name '*.cfg' -o -name '*.yml' -o -name '*.yaml' -o -name '*.properties' -o -name '*.json' -o \
        -name '*.toml' -o -name .pgpass -o -name credentials \) -exec awk "$PASSWORDS_AWK" {} + 2>/dev/null </dev/null | head -n 1000
)
