// Asks the relay's services as programs do, with Connect's own client for Node.js and its client for gRPC-Web. Prints what was
// answered, as JSON. Arguments: the URL, the file with the contracts, the token, the id of an event.
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";

const [baseUrl, contracts, token, eventId] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(contracts)));
const status = registry.getService("talaria.v1.StatusService");
const control = registry.getService("talaria.v1.ControlService");

const showToken = (next) => (request) => {
  request.header.set("authorization", `Bearer ${token}`);
  return next(request);
};
const options = { baseUrl, httpVersion: "1.1", interceptors: [showToken] };
const transports = {
  connect: createConnectTransport({ ...options, useBinaryFormat: false }),
  get: createConnectTransport({ ...options, useBinaryFormat: false, useHttpGet: true }),
  grpcWeb: createGrpcWebTransport(options),
};

async function refusal(call) {
  try {
    await call();
    return null;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return [Code[code], rawMessage];
  }
}

const answers = {};
for (const [name, transport] of Object.entries(transports)) {
  const [asks, acts] = [createClient(status, transport), createClient(control, transport)];
  const kinds = [];
  const stop = new AbortController();
  const watch = async () => {
    for await (const message of asks.watchDeliveries({}, { signal: stop.signal })) {
      kinds.push(message.kind);
      if (message.kind === 2) stop.abort();
    }
  };
  const stopped = await refusal(watch);
  answers[name] = {
    event: toJson(status.method.getEvent.output, await asks.getEvent({ eventId })),
    unknown: await refusal(() => asks.getDelivery({ deliveryId: `dlv_${"a".repeat(40)}` })),
    paused: (await acts.pause({ tenant: "me", requestedBy: name })).pause.requestedBy,
    resumed: (await acts.resume({ tenant: "me", requestedBy: name })).ended.requestedBy,
    late: await refusal(async () => {
      for await (const _ of asks.watchDeliveries({}, { timeoutMs: 300 }));
    }),
    kinds,
    stopped: stopped[0],
  };
}
console.log(JSON.stringify(answers));
