// Scores prompts over gRPC, from a folder with Pointsman's `protos` in it:
//   node scorer.mjs ADDRESS list
//   node scorer.mjs ADDRESS score ROUTER   each line of standard input is a prompt, as JSON
//   node scorer.mjs ADDRESS batch ROUTER   the same lines, in one call
// Prints a line of JSON for each call: the response, or an error with its status code.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const SERVICE = 'pointsman.scorer.v1.ScorerService';
const DEADLINE_SECONDS = Number(process.env.DEADLINE_SECONDS ?? 2);

const SERVICE_CONFIG = {
  // The default, pick_first, sends everything to one replica.
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: SERVICE }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: '0.1s',
        maxBackoff: '1s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE', 'RESOURCE_EXHAUSTED'],
      },
    },
  ],
  // While most calls fail, retries stop: they would only add to the load.
  retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
};

// Worth asking later; all other codes say the same until somebody changes something.
const PASSING = ['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'DEADLINE_EXCEEDED', 'FAILED_PRECONDITION'];

function credentials() {
  const environ = process.env;
  if (!environ.POINTSMAN_TLS_CA) return grpc.credentials.createInsecure();
  const [ca, key, certificate] = ['CA', 'KEY', 'CERTIFICATE'].map((name) =>
    readFileSync(environ[`POINTSMAN_TLS_${name}`]),
  );
  return grpc.credentials.createSsl(ca, key, certificate);
}

function openScorer(address) {
  const definition = loader.loadSync('pointsman/scorer/v1/scorer.proto', {
    includeDirs: ['protos'],
    keepCase: true, // strong_win_rate, as it is written everywhere else
    defaults: true, // 0, false and '' are not sent, and are values all the same
  });
  const { ScorerService } = grpc.loadPackageDefinition(definition).pointsman.scorer.v1;
  const name = process.env.POINTSMAN_TLS_SERVER_NAME;
  return new ScorerService(address, credentials(), {
    'grpc.service_config': JSON.stringify(SERVICE_CONFIG),
    'grpc.service_config_disable_resolution': 1, // no retry policy comes out of DNS
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.dns_min_time_between_resolutions_ms': 2000,
    'grpc.enable_http_proxy': 0, // proxies are for the way out of the cluster
    ...(name && { 'grpc.ssl_target_name_override': name }),
  });
}

// Prints the response of one call. Retries and the waits between them are inside its deadline.
async function print(scorer, rpc, request) {
  const requestId = randomUUID(); // stands in the scorer's log
  const metadata = new grpc.Metadata();
  metadata.set('x-request-id', requestId);
  const token = process.env.POINTSMAN_MESH_TOKEN;
  if (token) metadata.set('x-pointsman-mesh-token', token);
  const deadline = Date.now() + DEADLINE_SECONDS * 1000;
  try {
    const ask = promisify(scorer[rpc]).bind(scorer);
    console.log(JSON.stringify(await ask(request, metadata, { deadline })));
  } catch (error) {
    const code = grpc.status[error.code];
    if (code === undefined) throw error; // not gRPC's: a mistake in this file
    const passing = PASSING.includes(code);
    console.log(JSON.stringify({ code, message: error.details, passing, request_id: requestId }));
  }
}

const commands = {
  list: (scorer) => print(scorer, 'ListRouters', {}),
  score: async (scorer, router, lines) => {
    for await (const line of lines) {
      await print(scorer, 'Score', { router, prompt: JSON.parse(line) });
    }
  },
  batch: async (scorer, router, lines) => {
    const prompts = [];
    for await (const line of lines) prompts.push(JSON.parse(line));
    await print(scorer, 'ScoreBatch', { router, prompts });
  },
};

const [address, command, router] = process.argv.slice(2);
if (!Object.hasOwn(commands, command ?? '')) {
  console.error('usage: node scorer.mjs ADDRESS list | score ROUTER | batch ROUTER');
  process.exit(2);
}
const scorer = openScorer(address);
const lines = createInterface({ input: process.stdin });
await commands[command](scorer, router, lines);
lines.close();
scorer.close();
