#!/bin/bash
# lab/demo.sh : one involuntary termination, seen from outside with the clients that people use. Run it by: make demo
# Any result that differs from what is expected ends it with status 1.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
in_lab
project=$(dirname "$LAB_SRC")
offboard=${OFFBOARD:-$project/target/debug/offboard}
[[ -x $offboard ]] || die "$offboard is not built: cargo build"
offboard=$(realpath "$offboard")
. "$LAB_SRC/doors.sh"; . "$LAB_SRC/postgres.sh"

if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi
wrong=0
chapter() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# result WANTED GOT WHO WHERE WORDS : one line of a table; what is not as wanted is red and counted.
result() {
  local colour=$green mark='✓'
  if [[ $1 != "$2" ]]; then colour=$red mark='✗'; ((++wrong)); fi
  printf '  %s%s %-7s%s %-26s %-34s %s%.70s%s\n' "$colour" "$mark" "$2" "$plain" "$3" "$4" "$dim" "$5" "$plain"
}

# all_doors WANTED USER : tries each door of the person with its real client.
all_doors() {
  local what where verdict words
  while IFS=$'\t' read -r what where; do
    try_door "$2" "$what" "$where"
    result "$1" "$verdict" "$what" "$where" "$words"
  done < <(doors_of "$2")
}

# tables : number of rows and a checksum over all of them, for patients and for bills.
tables() {
  local table; for table in patients bills; do
    sql hospital -At <<<"select count(*), sum(hashtextextended(t::text, 0)) from $table t"
  done
}

held() { if kill -0 "$1" 2>/dev/null; then echo open; else echo ended; fi; }

# portal_door WANTED : the service's own password, as the leaver knows it, tried with psql.
portal_door() {
  local words verdict=unclear
  words=$(PGPASSWORD=$(<"$LAB/secrets/portal") psql -X -h pg.sunrise.test -U portal_app -d hospital -Atc "select 'logged in as ' || current_user" 2>&1) && verdict=open
  [[ $words != *'password authentication failed'* ]] || verdict=refused
  words=${words##*$'\n'}
  result "$1" "$verdict" psql portal_app@pg.sunrise.test "${words##*FATAL:  }"
}

cd "$LAB" || exit 1
began=$SECONDS

chapter 'Rohan Mehta, senior engineer at Sunrise Hospital IT, is dismissed today. What he can open now:'
all_doors open rmehta
chapter 'He also holds sessions open; so does his colleague Rohan Mehtaa, who stays.'
hold rmehta; his=("${sessions[@]}"); hold rmehtaa; others=("${sessions[@]}")
sleep 1
for i in "${!his[@]}"; do result open "$(held "${his[i]}")" rmehta "${held_at[i]}" ''; done
for i in "${!others[@]}"; do result open "$(held "${others[i]}")" rmehtaa "${held_at[i]}" ''; done
before=$(tables)

chapter 'And he knows the password with which the patient portal on web1 logs in. The portal is asked without a pause from here on:'
portal_door open
PGPASSWORD=$(<"$LAB/secrets/portal") psql -X -h pg.sunrise.test -U portal_app -d hospital -c 'select pg_sleep(1000)' </dev/null >/dev/null 2>&1 & his+=($!)
held_at+=('psql session as portal_app')
coproc HAMMER { "$LAB_SRC/hammer" web1 8080; }
hammered=$HAMMER_PID; read -r _ <&"${HAMMER[0]}"
result open "$(held "${his[-1]}")" rmehta "${held_at[-1]}" ''

chapter 'offboard run E1042 --playbook involuntary-termination --yes'
[[ -e keys/sealing.key ]] || "$offboard" init . >/dev/null || exit 1
timeout --foreground 180 "$offboard" run E1042 --playbook involuntary-termination --yes --report-to "$LAB/reports"; status=$?
result 10 "$status" 'exit status' '10 = a person still has something to do' ''

chapter 'The same doors, the same clients:'
all_doors refused rmehta
for i in "${!his[@]}"; do until_true 5 eval '! kill -0 "${his[i]}"'; result ended "$(held "${his[i]}")" rmehta "${held_at[i]}" ''; done
for host in "${HOSTS[@]}"; do
  left=$(on "$host" bash -c 'pgrep -u rmehta; crontab -l -u rmehta; find /var/spool/cron/atjobs -user rmehta; echo looked' 2>/dev/null | xargs)
  [[ $left != looked ]] || left=nothing
  result nothing "$left" 'left running' "$host" 'processes, crontab lines, at jobs'
done

chapter 'The portal has a new password, and nobody was kept waiting:'
echo >&"${HAMMER[1]}"; read -r answers failed <&"${HAMMER[0]}"; wait "$hammered"
portal_door refused
result 0 "$failed" 'failed requests' 'portal on web1' "of $answers, from before the run until now"

chapter 'Rohan Mehtaa, in the same groups, roles, hosts and key files:'
all_doors open rmehtaa
for i in "${!others[@]}"; do result open "$(held "${others[i]}")" rmehtaa "${held_at[i]}" 'held since before the run'; done

chapter 'IT has collected his laptop and badge: offboard done RUN STEP --evidence receipt.txt'
run=$(basename "$LAB"/reports/*.html .html)
step=$("$offboard" status "$run" | sed -n "s/^  offboard done $run \([0-9a-f]*\) .*/\1/p")
echo 'Laptop SR-4711 and badge 42 received.' >receipt.txt
"$offboard" "done" "$run" "$step" --evidence receipt.txt; status=$?
result 0 "$status" 'exit status' '0 = every door proved shut' ''
"$offboard" report "$run" --out "$LAB/reports/$run.html" >/dev/null; "$offboard" report "$run" --format json --out "$LAB/reports/$run.json" >/dev/null

chapter 'The hospital:'
after=$(tables)
name=(_ patients bills) expected=(_ 18000 300000)
for row in 1 2; do
  was=$(sed -n "${row}p" <<<"$before") is=$(sed -n "${row}p" <<<"$after")
  result same "$([[ $is == "${expected[row]}|"* && $is == "$was" ]] && echo same || echo changed)" "${name[row]}" "${is%|*} rows" "checksum ${is#*|}, before ${was#*|}"
done

mkdir -p "$project/target/demo" && cp -r "$LAB/reports/." "$project/target/demo/"
chapter 'The report:'
for file in "$LAB"/reports/*; do printf '  %s\n' "$project/target/demo/${file##*/}"; done
echo
if ((wrong > 0)); then printf '%s%d results are not as they should be.%s\n' "$red" "$wrong" "$plain"
else printf '%sEvery door is shut, and only his. %d seconds.%s\n' "$green" $((SECONDS - began)) "$plain"; fi

kill "${his[@]}" "${others[@]}" 2>/dev/null
[[ ${KEEP-} != 1 ]] || "$LAB_SRC/play"
exit $((wrong > 0))
