#!/usr/bin/python3
"""The hospital's mail server: SMTP with STARTTLS (587), with TLS from the first byte (465) and plain (25), for tests and the demo.

usage: smtp.py ADDRESS CERTIFICATE KEY PASSWORD-FILE FOLDER

Every mail becomes a file FOLDER/NUMBER.eml, its envelope in front as X-Envelope-From and X-Envelope-To. On 587 and 465 only the user
offboard may send. What is before the @ of a recipient tells how it is treated: `refuse` is unknown, `later` is put off, `slow` takes
20 seconds, `drop` breaks the connection. A file FOLDER/.slow makes every mail slow.
"""
import asyncio
import os
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

ADDRESS, CERTIFICATE, KEY, PASSWORD_FILE, FOLDER = sys.argv[1:]
warnings.simplefilter("ignore")  # plain login over TLS from the first byte, which aiosmtpd does not see


def authenticate(_server, _session, _envelope, _mechanism, data):
    with open(PASSWORD_FILE, "rb") as file:
        right = data.login == b"offboard" and data.password == file.read().rstrip(b"\n")
    return AuthResult(success=right, handled=False)


class Letterbox:
    number = 0

    async def handle_RCPT(self, server, _session, envelope, address, _options):
        what = address.split("@")[0]
        if what == "refuse":
            return "550 5.1.1 no such user here"
        if what == "later":
            return "451 4.7.1 greylisted, come again"
        if what == "drop":
            server.transport.abort()
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, _server, _session, envelope):
        if any(to.startswith("slow@") for to in envelope.rcpt_tos) or os.path.exists(f"{FOLDER}/.slow"):
            await asyncio.sleep(20)
        Letterbox.number += 1
        name = f"{FOLDER}/{os.getpid()}-{Letterbox.number:06}"
        with open(f"{name}.new", "wb") as file:
            file.write(f"X-Envelope-From: {envelope.mail_from}\r\n".encode())
            file.writelines(f"X-Envelope-To: {to}\r\n".encode() for to in envelope.rcpt_tos)
            file.write(envelope.original_content or envelope.content)
        os.rename(f"{name}.new", f"{name}.eml")
        return "250 2.0.0 Ok: taken"


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, KEY)
    loop = asyncio.get_running_loop()

    def server(**options):
        return lambda: SMTP(Letterbox(), hostname="mail.sunrise.test", loop=loop, **options)

    login = {"authenticator": authenticate, "auth_required": True}
    for port, make, tls in [
        (587, server(tls_context=context, require_starttls=True, **login), None),
        (465, server(auth_require_tls=False, **login), context),
        (25, server(), None),
    ]:
        await loop.create_server(make, ADDRESS, port, ssl=tls)
    await asyncio.Event().wait()


asyncio.run(main())
