"""Lockstep from Python, without generated code: the hub tells what it offers (gRPC reflection).

    python lockstep_client.py services
    python lockstep_client.py publish price/MUG-01:retail:EUR '{"amount": {"minor": 1290, "currency": "EUR"}}'
    python lockstep_client.py stream 1000
    python lockstep_client.py tail --after 0 --count 3
    python lockstep_client.py sell MUG-01 berlin 5

LOCKSTEP_GRPC is where the hub listens (127.0.0.1:7071), LOCKSTEP_KEY an API key.
"""

import argparse
import json
import os
import sys
import time
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

WAIT_S = 30


class Hub:
    """A hub, and the messages that it understands."""

    def __init__(self, address, key):
        self.channel = grpc.insecure_channel(address)
        self.metadata = [("authorization", f"Bearer {key}")]
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.reflection)

    def services(self):
        return sorted(self.reflection.get_services())

    def message(self, name, **fields):
        """A message of `lockstep.v1`."""
        descriptor = self.pool.FindMessageTypeByName(f"lockstep.v1.{name}")
        return message_factory.GetMessageClass(descriptor)(**fields)

    def call(self, service, method, request):
        """A call of `lockstep.v1`; `request` is a message, or an iterator of them where the call takes a stream."""
        described = self.pool.FindServiceByName(f"lockstep.v1.{service}").FindMethodByName(method)
        answer = message_factory.GetMessageClass(described.output_type)
        kind = ("stream" if described.client_streaming else "unary") + "_"
        kind += "stream" if described.server_streaming else "unary"
        stub = getattr(self.channel, kind)(
            f"/lockstep.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        # A stream lasts as long as it lasts; everything else is answered soon or not at all.
        timeout_s = None if described.server_streaming else WAIT_S
        return stub(request, metadata=self.metadata, timeout=timeout_s)

    def event(self, subject, data, verb="changed", event_id=None):
        kind = subject.split("/", 1)[0]
        return self.message(
            "Event",
            # The same id again is a repetition, which is safe: choose one that the sender finds again.
            id=event_id or str(uuid.uuid4()),
            source="/examples/grpc-python",
            type=f"{kind}.{verb}",
            subject=subject,
            data_json=json.dumps(data),
        )

    def key(self):
        """A key under which a write can be repeated."""
        return str(uuid.uuid4())


def outcome(result):
    name = result.DESCRIPTOR.fields_by_name["outcome"].enum_type.values_by_number[result.outcome].name
    said = {"outcome": name, "position": result.position}
    if result.HasField("problem"):
        said["problem"] = result.problem.code
    return said


def services(hub, _):
    for name in hub.services():
        print(name)


def publish(hub, args):
    event = hub.event(args.subject, json.loads(args.data), event_id=args.id)
    answer = hub.call("EventService", "Publish", hub.message("PublishRequest", events=[event]))
    for result in answer.results:
        print(json.dumps(outcome(result)))


def stream(hub, args):
    """Batches of 100 events; the acknowledgements come in order, while the next are on their way."""

    def batches():
        for first in range(0, args.count, 100):
            numbers = range(first, min(first + 100, args.count))
            data = [{"amount": {"minor": 100 + n, "currency": "EUR"}} for n in numbers]
            events = [hub.event(f"price/SKU-{n}:retail:EUR", d) for n, d in zip(numbers, data)]
            yield hub.message("PublishStreamRequest", sequence=first + 1, events=events)

    taken = 0
    for ack in hub.call("EventService", "PublishStream", batches()):
        if ack.HasField("problem"):
            sys.exit(f"batch {ack.sequence}: {ack.problem.detail}")
        taken += len(ack.results)
    print(json.dumps({"acknowledged": taken}))


def tail(hub, args):
    request = hub.message("SubscribeRequest", after_position=args.after, kind=args.kind)
    left = args.count
    answers = hub.call("EventService", "Subscribe", request)
    for answer in answers:
        for event in answer.events[:left]:
            entity = f"{event.kind}/{event.key}"
            document = json.loads(event.document_json)
            print(json.dumps({"position": event.position, "type": event.type, "entity": entity, "document": document}))
            left -= 1
        if left == 0:
            answers.cancel()
            return


def sell(hub, args):
    """Counts stock, reserves one, and says what may still be sold."""
    now = hub.message("CountRequest").as_of.__class__()
    now.GetCurrentTime()
    stock = lambda method, request: hub.call("StockService", method, request)
    policy = hub.message("SetPolicyRequest", idempotency_key=hub.key(), channel="web")
    stock("SetPolicy", policy)
    place = {"sku": args.sku, "location": args.location}
    count = hub.message(
        "CountRequest", idempotency_key=hub.key(), basis="COUNT_BASIS_ON_HAND", quantity=args.quantity, as_of=now, **place
    )
    stock("Count", count)
    reserve = hub.message("ReserveRequest", idempotency_key=hub.key(), reservation_id=hub.key(), channel="web", owner="cart-1")
    reserve.items.add(sku=args.sku, quantity=1)
    reserve.expires_at.FromSeconds(int(time.time()) + 600)
    reserved = stock("Reserve", reserve).reservation
    asked = hub.message("GetAvailabilityRequest", skus=[args.sku], channel="web")
    available = stock("GetAvailability", asked).items[0]
    print(json.dumps({"reserved_at": reserved.lines[0].location, "may_still_sell": available.atp_quantity}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("services").set_defaults(run=services)
    command = commands.add_parser("publish")
    command.add_argument("subject")
    command.add_argument("data")
    command.add_argument("--id")
    command.set_defaults(run=publish)
    command = commands.add_parser("stream")
    command.add_argument("count", type=int)
    command.set_defaults(run=stream)
    command = commands.add_parser("tail")
    command.add_argument("--after", type=int, default=0)
    command.add_argument("--kind", default="")
    command.add_argument("--count", type=int, default=10)
    command.set_defaults(run=tail)
    command = commands.add_parser("sell")
    command.add_argument("sku")
    command.add_argument("location")
    command.add_argument("quantity", type=int)
    command.set_defaults(run=sell)
    args = parser.parse_args()
    hub = Hub(os.environ.get("LOCKSTEP_GRPC", "127.0.0.1:7071"), os.environ.get("LOCKSTEP_KEY", ""))
    try:
        args.run(hub, args)
    except grpc.RpcError as error:
        # The stable code of Lockstep, for programs that decide by it.
        codes = [value for name, value in error.trailing_metadata() or () if name == "lockstep-code"]
        sys.exit(f"{error.code().name} {' '.join(codes)}: {error.details()}")


if __name__ == "__main__":
    main()
