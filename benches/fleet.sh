#!/bin/bash
# benches/fleet.sh FOLDER COUNT : COUNT sshd on 127.0.1.11 and up, port 22, until standard input ends. Run by benches/fleet.rs inside the
# lab, whose network nobody else sees. They share one small passwd of their own: nothing of the machine's is read or changed. Each has
# its own processes, as hosts do: one that saw the sessions of all fifty would have fifty times as much to read.
#
# FOLDER gets known_hosts and for each host I/keys/USER, which is all that its sshd reads for USER: `root` with FOLDER/operator.pub,
# `deploy` with FOLDER/deploy.keys.
set -eu
folder=$1 count=$2

if [[ ${3-} != inside ]]; then
  exec unshare --mount --pid --fork --kill-child --mount-proc bash "$0" "$folder" "$count" inside
fi

mkdir -p "$folder"/etc/{ssh,sudoers.d} "$folder"/{home,root} /run/sshd
awk -F: '$3 < 100 || $3 == 65534 || $1 == "sshd"' /etc/passwd >"$folder/etc/passwd"
echo 'deploy:x:1500:1500::/home/deploy:/bin/bash' >>"$folder/etc/passwd"
awk -F: '{ print $1 ":*:19700:0:99999:7:::" }' "$folder/etc/passwd" >"$folder/etc/shadow"
awk -F: -v OFS=: '$3 < 100 || $3 == 65534 { $4 = ""; print }' /etc/group >"$folder/etc/group"
echo 'deploy:x:1500:' >>"$folder/etc/group"
chmod 640 "$folder/etc/shadow"
for file in passwd shadow group; do mount --bind "$folder/etc/$file" "/etc/$file"; done
mount --bind "$folder/etc/ssh" /etc/ssh
for place in home root; do mount --bind "$folder/$place" "/$place"; done
install -d -o 1500 -g 1500 /home/deploy

ssh-keygen -q -t ed25519 -N '' -f "$folder/host_key"
for ((i = 1; i <= count; i++)); do
  host=$folder/$i address=127.0.1.$((10 + i))
  mkdir -p "$host/keys"
  cp "$folder/operator.pub" "$host/keys/root"
  install -m 600 -o 1500 -g 1500 "$folder/deploy.keys" "$host/keys/deploy"
  # sshd and who owns the file agree on who may write there.
  chown 1500 "$host/keys"
  cat >"$host/sshd_config" <<END
ListenAddress $address:22
HostKey $folder/host_key
PidFile $host/pid
AuthorizedKeysFile $host/keys/%u
StrictModes no
UsePAM yes
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 100:30:200
END
  # bash reaps whoever loses its parent, and ends with standard input.
  unshare --mount --pid --fork --kill-child --mount-proc \
    bash -c '/usr/sbin/sshd -f "$1/sshd_config" -E "$1/log" && cat >/dev/null' host "$host" <&0 &
  echo "$address $(cut -d' ' -f1,2 "$folder/host_key.pub")" >>"$folder/known_hosts"
done
for ((i = 1; i <= count; i++)); do
  until [[ -s $folder/$i/pid ]]; do sleep 0.02; done
done
touch "$folder/up"
# The kernel takes everything away with this process, the first of its namespace.
cat >/dev/null
