# shellcheck shell=bash
# The hospital's mail server: lab/smtp.py. What it takes becomes files in $LAB/mail. Sourced by lab/server.

prepare_mail() { mkdir -p "$LAB/mail"; }

start_mail() {
  setsid /usr/bin/python3 "$LAB_SRC/smtp.py" "${ADDRESS[mail]}" "$LAB/pki/mail.pem" "$LAB/pki/mail.key" "$LAB/secrets/smtp" "$LAB/mail" \
    >>"$LAB/log/mail" 2>&1 </dev/null &
  echo $! >"$LAB/pids/mail"
  until_true 20 mail_answers || { tail "$LAB/log/mail"; return 1; }
}

mail_answers() { timeout 5 openssl s_client -starttls smtp -connect "${ADDRESS[mail]}:587" -CAfile "$LAB/ca.pem" -verify_return_error <<<QUIT; }
