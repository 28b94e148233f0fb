"""A real mail server (aiosmtpd) that takes, refuses or ignores mails as it is told.

Prints its port, then obeys JSON lines: {"behave": "accept"} and so on is answered with "ok", {"received": true} with a JSON
list of what has reached it. With a certificate and its key (PEM files) it offers STARTTLS and wants a login.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    def __init__(self):
        self.behaviour = "accept"
        self.received = []

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.received.append(
            {
                "id": mail["Lockstep-Event"],
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "headers": {name.lower(): str(value) for name, value in mail.items()},
                "text": mail.get_content(),
                "login": session.auth_data.decode() if session.auth_data else None,
                "encrypted": session.ssl is not None,
            }
        )
        if self.behaviour == "fail":
            return "451 4.3.0 out of order"
        if self.behaviour == "reject":
            return "550 5.1.1 no such mailbox"
        if self.behaviour == "cut":
            server.transport.abort()
            return "250 never told"
        if self.behaviour == "silent":
            await asyncio.sleep(3600)
        return "250 2.0.0 taken"


def authenticator(server, session, envelope, mechanism, data):
    good = data.login == b"hub" and data.password == b"s3cret"
    return AuthResult(success=good, handled=False, auth_data=data.login)


async def main():
    handler = Handler()
    options = {"hostname": "mail.test"}
    if len(sys.argv) > 1:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        options.update(tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticator)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, **options), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        order = json.loads(line)
        if "behave" in order:
            handler.behaviour = order["behave"]
            print('"ok"', flush=True)
        else:
            print(json.dumps(handler.received), flush=True)


asyncio.run(main())
