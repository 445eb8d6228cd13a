# shellcheck shell=bash
# The files that make a host that host: accounts, keys, sudo, sshd, scheduled jobs. Sourced by lab/host.sh.

# key_of USER [WHICH] [COMMENT] : a public key as it stands in an authorized_keys file.
key_of() {
  local type key comment
  read -r type key comment <"$LAB/people/$1/${2:-id_ed25519}.pub"
  echo "$type $key ${3:-$comment}"
}

# account USER UID : a line each in passwd, shadow and group, and a home.
account() {
  echo "$1:x:$2:$2::/home/$1:/bin/bash" >>etc/passwd; echo "$1:*:19700:0:99999:7:::" >>etc/shadow; echo "$1:x:$2:" >>etc/group
  install -d -m 755 -o "$2" -g "$2" "$own/home/$1"; install -d -m 700 -o "$2" -g "$2" "$own/home/$1/.ssh"
}

# keys UID FILE : standard input is added to an authorized_keys file.
keys() { cat >>"$own$2"; chmod 600 "$own$2"; chown "$1:$1" "$own$2"; }

# What all hosts have alike, made once: upper/ goes over the machine's root, own/ is mounted in place of the machine's folders.
hosts_template() {
  local own=$LAB/seed/host/own
  mkdir -p "$LAB/seed/host/upper/etc/sudoers.d" "$own"/{root/.ssh,home,run,tmp,etc/ssh,etc/cron.d,var/log,var/spool/cron,var/tmp} || return
  chmod -R 700 "$own/root"; chmod 1777 "$own/tmp" "$own/var/tmp"
  (cd "$LAB/seed/host/upper" && system_accounts && special_accounts && people_accounts && schedule)
}

# host_files HOST : its upper/ and own/.
host_files() {
  local own=$LAB/hosts/$1/own
  cp -a "$LAB/seed/host/." "$LAB/hosts/$1/" && cd "$LAB/hosts/$1/upper" || return
  operator "$1" && ssh_server "$1" && plant "$1" && awk -F: '{ print $1 ":*::" $4 }' etc/group >etc/gshadow
}

# Accounts that packages need, with the numbers that files on the machine have; no others.
system_accounts() {
  awk -F: '$3 < 100 || $3 == 65534 || $1 == "sshd"' /etc/passwd >etc/passwd
  awk -F: '{ print $1 ":*:19700:0:99999:7:::" }' etc/passwd >etc/shadow
  awk -F: -v OFS=: '$3 < 100 || $3 == 65534 || $1 ~ /^(crontab|_?ssh)$/ { $4 = ""; print }' /etc/group >etc/group
  echo 'ops:x:900:' >>etc/group
  : >etc/gshadow; : >etc/subuid; : >etc/subgid; : >etc/crontab
  chmod 640 etc/shadow etc/gshadow; chgrp shadow etc/shadow etc/gshadow
  printf 'root ALL=(ALL:ALL) ALL\n%%sudo ALL=(ALL:ALL) ALL\noffboard ALL=(ALL) NOPASSWD: ALL\n' >etc/sudoers; chmod 440 etc/sudoers
}

special_accounts() { account deploy 1500 && account backup-svc 1501 && account emergency 1502; }

# Engineers and operations people have an account and a key on every host.
people_accounts() {
  local user uid
  while IFS=$'\t' read -r _ user uid _; do
    [[ -e $LAB/people/$user/id_ed25519.pub ]] || continue
    account "$user" "$uid" && key_of "$user" | keys "$uid" "/home/$user/.ssh/authorized_keys" || return
  done <"$LAB/seed/people.tsv"
}

# offboard's own login: an ordinary user with sudo, on the backup host root itself.
operator() {
  if [[ $1 == backup ]]; then
    keys 0 /root/.ssh/authorized_keys <"$LAB/secrets/fleet_ed25519.pub"
  else
    account offboard 1503 && keys 1503 /home/offboard/.ssh/authorized_keys <"$LAB/secrets/fleet_ed25519.pub"
  fi
  printf '127.0.0.1 localhost %s\n' "$1" | cat - "$LAB/seed/hosts" >etc/hosts; echo "$1" >etc/hostname
}

ssh_server() {
  install -m 600 "$LAB/hosts/$1/ssh_host_ed25519_key" "$own/etc/ssh/"; install -m 644 "$LAB/hosts/$1/ssh_host_ed25519_key.pub" "$own/etc/ssh/"
  cp /etc/ssh/moduli "$own/etc/ssh/" 2>/dev/null
  cat >"$own/etc/ssh/sshd_config" <<END
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
UseDNS no
PrintMotd no
MaxStartups 100:30:200
Subsystem sftp /usr/lib/openssh/sftp-server
END
  if [[ $1 == db1 ]]; then
    install -d "$own/etc/ssh/keys"
    cat >>"$own/etc/ssh/sshd_config" <<END
AuthorizedKeysFile /etc/ssh/keys/%u .ssh/authorized_keys
Match User deploy
  AuthorizedKeysFile /etc/ssh/keys/deploy .ssh/authorized_keys .ssh/release_keys
END
  fi
  cp "$LAB_SRC/seed/syslog.pl" etc/lab-syslog
}

schedule() {
  local daemon crontab; daemon=$(id -u daemon); crontab=$(getent group crontab | cut -d: -f3)
  install -d -m 1730 -g "$crontab" "$own/var/spool/cron/crontabs"
  install -d -m 1770 -o "$daemon" -g daemon "$own"/var/spool/cron/{atjobs,atspool}
  install -m 600 -o daemon -g daemon /dev/null "$own/var/spool/cron/atjobs/.SEQ"
}

# member GROUP USER… : add to a group of the host.
member() { local group=$1; shift; local IFS=,; sed -i "s/^$group:.*:\$/&$*/" etc/group; }

# What a hostile leaver leaves behind, and a look-alike beside it everywhere.
plant() {
  local engineer=(agokhale kagarwal hgupta)
  { for e in "${engineer[@]}" rmehtaa; do key_of "$e"; done; } | keys 1500 /home/deploy/.ssh/authorized_keys
  key_of pkrishnan | keys 1501 /home/backup-svc/.ssh/authorized_keys
  member ops rmehta rmehtaa agokhale
  case $1 in
    web1)
      member sudo rmehta rmehtaa
      echo "from=\"127.66.0.0/16\",restrict,pty $(key_of rmehta id_ed25519 'ci runner, do not remove')" | keys 1500 /home/deploy/.ssh/authorized_keys
      # For a sweep: like Aarav Gokhale's, and nobody's.
      account agokhalee 1510
      ssh-keygen -q -t ed25519 -N '' -C 'contractor' -f "$LAB/people/agokhale/id_contractor" </dev/null
      key_of agokhale id_contractor | keys 1510 /home/agokhalee/.ssh/authorized_keys
      install -m 600 -o "$(uid_of rmehta)" -g crontab /dev/stdin "$own/var/spool/cron/crontabs/rmehta" <<<'* * * * * date >>$HOME/cron-was-here'
      ;;
    web2)
      { key_of rmehtaa; key_of rmehta id_ed25519 'monitoring agent'; } | keys 0 /root/.ssh/authorized_keys2
      key_of rmehta id_second 'build@ci' | keys 1500 /home/deploy/.ssh/authorized_keys
      ;;
    db1)
      # For a sweep: somebody who works here, and has not been here since 1704443400, a day in January 2024.
      perl -e 'seek STDOUT, 292 * $ARGV[0], 0; print pack "l a32 a256", $ARGV[1], "pts/0", "127.66.0.1"' \
        "$(uid_of cyadav)" 1704443400 >"$own/var/log/lastlog"
      key_of rmehta id_ed25519 'release' | keys 1500 /home/deploy/.ssh/release_keys
      { key_of rmehta; key_of rmehta id_second; } >"$own/etc/ssh/keys/rmehta"; key_of rmehtaa >"$own/etc/ssh/keys/rmehtaa"
      ;;
    bastion)
      key_of rmehta id_second | keys "$(uid_of rmehta)" /home/rmehta/.ssh/authorized_keys
      key_of rmehta id_ed25519 'aarav (new laptop)' | keys "$(uid_of agokhale)" /home/agokhale/.ssh/authorized_keys
      ;;
    backup)
      key_of rmehta id_second 'restore drill' | keys 1500 /home/deploy/.ssh/authorized_keys
      ;;
  esac
}

uid_of() { awk -F'\t' -v user="$1" '$2 == user { print $3 }' "$LAB/seed/people.tsv"; }

# A job in at's queue that writes a file and queues itself again. Needs the host's namespaces: at is a setuid program with locks.
plant_at_job() {
  on "$1" setpriv --reuid=rmehta --regid=rmehta --init-groups env HOME=/home/rmehta LOGNAME=rmehta USER=rmehta bash -c '
    cd && echo "date >>\$HOME/at-was-here; at -f \$HOME/.again now + 1 minute" >.again && at -f .again now + 1 minute'
}
