"""Says whether signed requests are authentic, by libraries that know nothing of Lockstep.

Reads JSON lines such as {"how": "standard", "secret": "whsec_...", "headers": {...}, "body": "..."} and answers each with
"authentic" or with the reason why it is not.
"""

import base64
import hashlib
import hmac
import json
import sys

import standardwebhooks
import stripe


def standard(request):
    standardwebhooks.Webhook(request["secret"]).verify(request["body"], request["headers"])


def of_stripe(request):
    signature = request["headers"]["stripe-signature"]
    stripe.WebhookSignature.verify_header(request["body"], signature, request["secret"], tolerance=300)


def plain(request):
    """As receivers write it themselves: GitHub's way with `hex`, Shopify's with `base64`."""
    tag = hmac.new(request["secret"].encode(), request["body"].encode(), request.get("hash", hashlib.sha256().name))
    form = {"hex": tag.hexdigest(), "base64": base64.b64encode(tag.digest()).decode()}[request["encoding"]]
    given = request["headers"][request["header"]]
    if not hmac.compare_digest(given, request.get("prefix", "") + form):
        raise ValueError(f"{given} is not the signature")


for line in sys.stdin:
    request = json.loads(line)
    try:
        {"standard": standard, "stripe": of_stripe, "plain": plain}[request["how"]](request)
        print("authentic", flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
