/**
 * The configuration of the front, HAProxy 3.0, made from a description whose every string is checked: a path or an address
 * that could end a line, a word or a quote is refused. It is made with the image, and measured: what changes while a node
 * runs (certificates, servers, domains) goes over HAProxy's runtime socket (front.ts), so that nothing is ever reloaded.
 *
 * What HAProxy listens with before the driver has spoken: a certificate with a throw-away key, behind a closed gate.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { check, IPv4, Strict } from '../../lib/protocol/schema.ts';
import { NODE_FOLDER } from '../../lib/protocol/site-evidence.ts';
import { APP_DOMAINS, sockets } from '../../lib/protocol/sockets.ts';
import { daemons } from '../daemons.ts';
import { unavailablePage, WAIT_SECONDS } from './unavailable.ts';

/** Below /run/dstack. */
export const PLACEHOLDER = 'tls/placeholder.pem';

/** No character of it has a meaning to HAProxy's configuration. */
const Path = Type.String({ pattern: '^(/[A-Za-z0-9._-]+)+$', maxLength: 100 });
const Network = Type.String({ pattern: '^[0-9a-f.:]+(/\\d{1,3})?$', maxLength: 50 });
const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const Milliseconds = Type.Integer({ minimum: 1, maximum: 86_400_000 });

export const FrontDescription = Strict({
  /**
   * `port` is the website's, and so is `proxiedPort`, where every connection begins with a header of the PROXY protocol: a host chooses
   * which of the two it leads visitors to. At `httpPort` authorities ask, without TLS, and visitors are sent to the website. At `storePort`
   * clients of the store come, whose TLS is passed on.
   */
  listen: Strict({ address: IPv4, port: Port, proxiedPort: Port, httpPort: Port, storePort: Port }),
  /** The runtime socket: who may connect there rules the front. */
  control: Path,
  /** The group that may; absent: HAProxy's own user alone. */
  controlGid: Type.Optional(Type.Integer({ minimum: 1, maximum: 65533 })),
  /** The driver's socket: answers where no app does. */
  answers: Path,
  /** The store's socket for clients outside; where network.json names none, nobody listens there. */
  store: Path,
  /** Sockets of the front's own, behind the sorter. */
  sorted: Strict({ visitors: Path, challenges: Path }),
  /** PEM file of the certificate to start with. */
  placeholder: Path,
  /** Where the files of `frontFiles` lie. */
  folder: Path,
  /** How many sites there can be at once. */
  sites: Type.Integer({ minimum: 1, maximum: 64 }),
  limits: Strict({
    connections: Type.Integer({ minimum: 10, maximum: 100_000 }),
    /** Without TLS; they come on top. */
    httpConnections: Type.Integer({ minimum: 10, maximum: 100_000 }),
    /** Of the store; they come on top. */
    storeConnections: Type.Integer({ minimum: 10, maximum: 10_000 }),
    perSource: Type.Integer({ minimum: 1, maximum: 100_000 }),
    /** Under way at once, over however many connections: HTTP/2 has many requests on one, each with a connection to the app. */
    requests: Type.Integer({ minimum: 1, maximum: 100_000 }),
    requestsPerSource: Type.Integer({ minimum: 1, maximum: 100_000 }),
    /** Of those, to the driver: an answer that nobody reads keeps one of its few connections. */
    ownPerSource: Type.Integer({ minimum: 1, maximum: 100 }),
    /** Addresses that many visitors have at once, since something before us hides theirs: not counted by source. */
    sharedSources: Type.Array(IPv4, { minItems: 1, maxItems: 16 }),
    /** Networks that no header of the PROXY protocol may name: they are the guest's inside. */
    insideSources: Type.Array(Network, { minItems: 1, maxItems: 16 }),
    bodyBytes: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  }),
  times: Strict({
    /** From the first byte of a request to the end of its headers; how long a connection may wait for the next one. */
    request: Milliseconds,
    /** From there to the end of its body, however it keeps coming. */
    body: Milliseconds,
    /** How long a request waits for an app that is being replaced. */
    wait: Milliseconds,
    /** From the end of a request to the first byte of its answer. */
    answer: Milliseconds,
    /** How long an answer that has begun, or a WebSocket, may be silent. */
    silence: Milliseconds,
    /** How long a client may take for each piece of a body that it sends or reads. */
    client: Milliseconds,
  }),
});
export type FrontDescription = Static<typeof FrontDescription>;

/** The guest's own. */
export const imageFront: FrontDescription = {
  listen: {
    address: '0.0.0.0',
    port: guestPorts.tls,
    proxiedPort: guestPorts.proxied,
    httpPort: guestPorts.http,
    storePort: guestPorts.storeClients,
  },
  control: `/run/dstack/${sockets.front}`,
  controlGid: daemons.flatMap(({ serves }) => serves).find(({ path }) => path === sockets.front)!.gid!,
  answers: `/run/dstack/${sockets.tlsForFront}`,
  store: `/run/dstack/${sockets.kvForFront}`,
  sorted: { visitors: '/run/dstack/front/visitors.sock', challenges: '/run/dstack/front/challenges.sock' },
  placeholder: `/run/dstack/${PLACEHOLDER}`,
  folder: '/etc/dstack/front',
  // The network's website, and one for each domain of an app.
  sites: 1 + APP_DOMAINS,
  limits: {
    connections: 4_000,
    httpConnections: 500,
    storeConnections: 500,
    perSource: 500,
    requests: 3_000,
    requestsPerSource: 500,
    ownPerSource: 10,
    // With QEMU's user networking every visitor comes from the address of its gateway.
    sharedSources: ['10.0.2.2'],
    // As in the packet filter.
    insideSources: ['10.90.0.0/16', '127.0.0.0/8', '::1', '::ffff:10.90.0.0/112', '::ffff:127.0.0.0/104'],
    bodyBytes: 100 * 1024 * 1024,
  },
  times: { request: 15_000, body: 900_000, wait: 30_000, answer: 60_000, silence: 600_000, client: 60_000 },
};

/** The names in the configuration that the driver speaks of at run time. */
export const names = {
  /**
   * While `open` is not in the gate's map, every connection is closed before the handshake. `shows` is for the driver: of which
   * public key the certificate is, in hex of SHA-256.
   */
  gate: { map: 'gate', open: 'open', shows: 'shows' },
  /** What answers an authority (RFC 8555, section 8.3), whoever ordered: the thumbprint of the account's key. */
  acme: { map: 'acme', thumbprint: 'thumbprint' },
  /** Of these two frontends, which listen at the same ports, one is paused: see `sorter`. */
  visitors: 'visitors',
  sorter: 'sorter',
  /** Domain to site. */
  domains: 'domains',
  /** Sites for which requests wait, because their app is being replaced. */
  waits: 'waits',
  site: (index: number): string => `site${index}`,
  /** The backends of a site: for requests that are here whole, and for those whose body is looked at as it comes. */
  backends: (index: number): string[] => [`site${index}`, `site${index}-uploads`],
  /** Two of each: the next one is up before the last one goes. */
  servers: { 'http/1.1': ['http1-a', 'http1-b'], h2c: ['h2c-a', 'h2c-b'] },
} as const;

/**
 * Connections to apps that are kept for one visitor's. HTTP/2 asks for many things at once, each over a connection to the app that serves
 * no other visitor: with one kept, most of them are made anew each time, at three times the processor time. An app may have this
 * many for each of `limits.connections`, idle, for as long as it and the visitor keep theirs.
 */
const KEPT = 8;

/** Of the store, in a second, of all; and of one source, in a second and at once. */
const STORE_HANDSHAKES = 50;
const STORE_NEW_PER_SOURCE = 20;
const STORE_PER_SOURCE = 100;

/** HAProxy's room for a head besides what it may add to it; or for a body that it keeps, of 16 KiB at most, and its head. */
const HEAD_BYTES = 18 * 1024;
const ADDED_BYTES = 1024;

/** RFC 8555, section 8.3. */
const CHALLENGES = '/.well-known/acme-challenge/';

/** What claims where a request came from: the front's to say. Names are in lower case by then. */
const CLAIMS =
  'forwarded|via|x-real-ip|x-forwarded(-.*)?|x-original-.*|x-rewrite-url|(x-|true-)?client-ip|x-cluster-client-ip|cf-connecting-ip|x-host|x-http-host-override|x-url-scheme|front-end-https|proxy';
/** Of a hop (RFC 9110, 7.6.1), besides Connection and what it nominates. */
const HOP = 'keep-alive|proxy-(connection|authenticate|authorization)|http2-settings';

/**
 * Text by file name, for `description.folder`.
 * @throws DstackError FRONT_DESCRIPTION when a part of it has another form
 */
export function frontFiles(description: FrontDescription): Map<string, string> {
  const front = check(FrontDescription, description, 'FRONT_DESCRIPTION', 'the description of the front');
  return new Map([
    ['haproxy.cfg', configuration(front)],
    // The first one is for every name that has none of its own, and for clients that say none.
    ['certificates', `${front.placeholder}\n`],
    ['challenges', `${front.placeholder} nobody.invalid\n`],
    // Filled at run time. HAProxy lets several rules ask a map of a file, but not one without.
    ...[names.gate.map, names.acme.map, names.domains, names.waits].map((map) => [`${map}.map`, ''] as const),
    ['front.lua', readFileSync(join(import.meta.dirname, 'front.lua'), 'utf8')],
  ]);
}

/** The path of the list of certificates, by which the runtime socket knows it. */
export const certificateList = ({ folder }: Pick<FrontDescription, 'folder'>): string =>
  `${folder}/certificates`;

/** That of the certificates for tls-alpn-01. */
export const challengeList = ({ folder }: Pick<FrontDescription, 'folder'>): string => `${folder}/challenges`;

/** A map's file, by which the runtime socket knows it. */
export const mapFile = ({ folder }: Pick<FrontDescription, 'folder'>, name: string): string =>
  `${folder}/${name}.map`;

function configuration(front: FrontDescription): string {
  const sites = Array.from({ length: front.sites }, (_, index) => {
    const [whole = '', uploads = ''] = names.backends(index);
    const { limits, times } = front;
    return [
      site(front, whole),
      site(front, uploads, `  filter lua.body_limit ${limits.bodyBytes} ${Math.ceil(times.body / 1000)}\n`),
    ];
  });
  const parts = [direct, sorter, challenges, plain, storeClients, own].map((part) => part(front));
  return [global(front), defaults(front), ...parts, ...sites.flat()].join('\n');
}

function global({ control, controlGid, folder, limits, times }: FrontDescription): string {
  const gid = controlGid === undefined ? 'mode 600' : `gid ${controlGid} mode 660`;
  return `global
  stats socket ${control} ${gid} level admin
  stats timeout 1m
  # Two descriptors each: enough for the visitors' (three behind the sorter), for those kept to apps beside each, and for those of
  # the requests under way.
  maxconn ${Math.ceil(((3 + KEPT) * limits.connections + limits.httpConnections + limits.storeConnections + limits.requests) / 2)}
  hard-stop-after 3s
  # Of PEM files nothing but themselves is read.
  ssl-load-extra-files none
  # TLS 1.2 and 1.3 with forward secrecy and AEAD only; a hybrid post-quantum group first.
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
  ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
  ssl-default-bind-curves X25519MLKEM768:X25519:P-256
  tune.stick-counters 4
  tune.bufsize ${HEAD_BYTES + ADDED_BYTES}
  tune.maxrewrite ${ADDED_BYTES}
  # A connection that keeps on breaking HTTP/2's rules, or resets its requests, is closed.
  tune.h2.fe.glitches-threshold 1000
  lua-load-per-thread ${folder}/front.lua ${mapFile({ folder }, names.waits)} ${Math.ceil(times.wait / 1000)}
`;
}

function defaults({ times }: FrontDescription): string {
  const page = (status: number, reason: string) =>
    `  http-error status ${status} content-type "text/html; charset=utf-8" string ${quoted(unavailablePage(reason))} hdr retry-after ${WAIT_SECONDS} hdr cache-control no-store`;
  return `defaults
  mode http
  # Nothing is logged of what strangers choose to do.
  no log
  timeout connect 5s
  timeout http-request ${times.request}
  timeout http-keep-alive ${times.request}
  timeout client-hs ${times.request}
  timeout client ${times.client}
  timeout server ${times.answer}
  timeout tunnel ${times.silence}
  timeout client-fin 30s
  timeout server-fin 30s
  # A connection to an app serves one visitor's connection only: an app that misreads where a request ends (its body of a GET,
  # say) confuses whoever made it do so, and nobody else.
  http-reuse never
  retries 1
  # Who has left waits for nothing, and takes no place among the requests under way.
  option abortonclose
${page(502, 'the app answers something that is not HTTP, or breaks off')}
${page(503, 'the app does not answer')}
${page(504, 'the app took too long to answer')}
`;
}

/** What every connection meets before anything is read of it. */
const gate = (front: FrontDescription): string =>
  `  tcp-request connection reject unless { str(${names.gate.open}),map_str(${mapFile(front, names.gate.map)},shut) -m str yes }`;

/** By source, where that says anything. */
const bySource = ({ limits }: FrontDescription): string => `  acl proxied so_id 2
  acl shared src ${limits.sharedSources.join(' ')}
  tcp-request connection track-sc0 src,ipmask(32,64) table sources if !proxied !shared
  tcp-request connection reject if { sc0_conn_cur(sources) gt ${limits.perSource} }`;

/**
 * The same for a connection that begins with a header, by what that says. It is the host's word: an address that no visitor can have
 * is no visitor's.
 */
const byHeader = ({ limits }: FrontDescription): string => `  acl inside src ${limits.insideSources.join(' ')}
  tcp-request session reject if proxied inside
  tcp-request session track-sc0 src,ipmask(32,64) table sources if proxied !shared
  tcp-request session reject if proxied { sc0_conn_cur(sources) gt ${limits.perSource} }`;

/** Of the two ports with TLS: `how` is what comes after each address. */
const listening = ({ listen: { address, port, proxiedPort } }: FrontDescription, how: string): string =>
  `  bind ${address}:${port} id 1${how}
  bind ${address}:${proxiedPort} id 2 accept-proxy${how}`;

const tls = (front: FrontDescription): string => ` ssl crt-list ${certificateList(front)} alpn h2,http/1.1`;

function direct(front: FrontDescription): string {
  return `backend sources
  stick-table type ipv6 size 100k expire 1m store conn_cur

frontend ${names.visitors}
${listening(front, tls(front))}
  maxconn ${front.limits.connections}
${gate(front)}
${bySource(front)}
${byHeader(front)}
${requests(front)}`;
}

/**
 * For tls-alpn-01 (RFC 8737): HAProxy chooses certificates by name, so that what offers `acme-tls/1`, and nothing else, has to be told
 * before TLS, and everybody's bytes go through one more socket. It is for networks whose network.json names this challenge: for all
 * others it is paused, and for these the frontend that does without it.
 */
function sorter(front: FrontDescription): string {
  const { limits, times, sorted } = front;
  return `frontend ${names.sorter}
  mode tcp
${listening(front, '')}
  maxconn ${limits.connections}
${gate(front)}
${bySource(front)}
${byHeader(front)}
  tcp-request inspect-delay ${times.request}
  tcp-request content accept if { req.ssl_hello_type 1 }
  tcp-request content reject
  use_backend challenged if { req.ssl_alpn -m str acme-tls/1 } !{ req.ssl_alpn -m reg ^(?!acme-tls/1$) }
  default_backend sorted

backend challenged
  mode tcp
  server challenges unix@${sorted.challenges}

backend sorted
  mode tcp
  server visitors unix@${sorted.visitors} send-proxy-v2

frontend sorted-visitors
  bind unix@${sorted.visitors} mode 600 accept-proxy${tls(front)}
  maxconn ${limits.connections}
${requests(front)}`;
}

/** A handshake is all that an authority wants. */
function challenges(front: FrontDescription): string {
  return `frontend challenges
  mode tcp
  bind unix@${front.sorted.challenges} mode 600 ssl crt-list ${challengeList(front)} strict-sni alpn acme-tls/1
  maxconn 100
  tcp-request session reject
`;
}

/** What is done with visitors' requests. */
function requests(front: FrontDescription): string {
  const { limits } = front;
  return `  max-session-srv-conns ${KEPT}

  http-request track-sc1 src,ipmask(32,64) table requests unless { src ${limits.sharedSources.join(' ')} }
  http-request track-sc2 int(0) table all-requests
  http-request deny deny_status 429 if { sc1_conn_cur gt ${limits.requestsPerSource} } || { sc2_conn_cur gt ${limits.requests} }

  # One host, by the letter. HAProxy refuses differing ones by itself, and a target that names another.
  http-request deny deny_status 400 unless { req.hdr_cnt(host) eq 1 } || { req.hdr_cnt(host) eq 0 } { req.ver 1.0 }
  http-request deny deny_status 405 if METH_CONNECT
  http-request deny deny_status 413 if { req.hdr_val(content-length) gt ${limits.bodyBytes} }

  # Names that CGI's convention would turn into others, such as X_Forwarded_For.
  option http-restrict-req-hdr-names delete
  # Of protocols to go over to WebSocket alone is left: another offer is declined by answering without it (RFC 9110, 7.8).
  http-request lua.request_hops if { req.hdr(connection) -m reg -i ^(?!(close|keep-alive)$) } || { req.hdr(upgrade) -m found }
  http-request del-header connection unless { req.hdr(upgrade) -m found }
  http-request del-header ^(${CLAIMS}|${HOP})$ -m reg
  http-request set-uri %[pathq] if !{ url -m beg / } !{ url -m str * }
  http-request add-header x-forwarded-for %[src]
  http-request add-header x-forwarded-host %[req.hdr(host)]
  http-request add-header x-forwarded-proto https

  http-response lua.response_hops if { res.hdr(connection) -m reg -i ^(?!(close|keep-alive|upgrade)$) }
  http-response del-header connection if !{ status 101 }
  http-response del-header ^(${HOP})$ -m reg
  http-response deny deny_status 502 if { status gt 599 }

  # A connection is for the site whose name it asked for in the handshake (RFC 9110, 7.4): a client that uses it for another site of the
  # same certificate, as HTTP/2's may (RFC 9113, 9.1.1), is told to make a new one (15.5.20).
  http-request set-var(txn.named) str(${names.site(0)})
  http-request set-var(txn.named) ssl_fc_sni,lower,map_str(${mapFile(front, names.domains)},${names.site(0)}) if { ssl_fc_has_sni }
  http-request set-var(txn.site) req.hdr(host),host_only,lower,map_str(${mapFile(front, names.domains)},${names.site(0)})
  acl hostless req.hdr_cnt(host) eq 0
  acl for-website var(txn.named) -m str ${names.site(0)}
  http-request deny deny_status 421 unless { var(txn.site),strcmp(txn.named) eq 0 } || hostless for-website
  http-request lua.wait_for_app if !{ path -m beg ${NODE_FOLDER} } { var(txn.site),map_str(${mapFile(front, names.waits)}) -m found }
  use_backend own if { path -m beg ${NODE_FOLDER} }
  # Bodies that are looked at as they pass (front.lua): that are not here whole, or have room for a trailer at their end. What comes
  # after a WebSocket's head is none, and over HTTP/2 no other head has an Upgrade (RFC 9113, 8.2.2).
  use_backend %[var(txn.site)]-uploads if !{ internal.htx.has_eom } !{ fc_http_major 2 } || !{ internal.htx.has_eom } !{ req.hdr(upgrade) -m found } || { internal.htx_blk.type(tail) -m str HTX_BLK_EOT }
  use_backend %[var(txn.site)]
  # HTTP/1.0 needs no Host.
  default_backend ${names.site(0)}
`;
}

/**
 * Without TLS: the answer to an authority, which needs no state, so that any node gives it, whichever ordered; for who reads a
 * page of the site, where it is; and nothing else.
 */
function plain(front: FrontDescription): string {
  const { listen, limits, times } = front;
  return `frontend plain
  bind ${listen.address}:${listen.httpPort} id 1
  maxconn ${limits.httpConnections}
${gate(front)}
${bySource(front)}
  timeout client ${times.request}
  option httpclose
  option disable-h2-upgrade

  acl reads method GET HEAD
  acl known req.hdr(host),host_only,lower,map_str(${mapFile(front, names.domains)}) -m found
  acl challenge path_beg ${CHALLENGES}
  acl token path_reg ^${CHALLENGES.replaceAll('.', '\\.')}[A-Za-z0-9_-]{1,200}$
  http-request set-var(txn.thumbprint) str(${names.acme.thumbprint}),map_str(${mapFile(front, names.acme.map)})
  http-request deny deny_status 404 unless reads known
  http-request return status 200 content-type application/octet-stream lf-string "%[path,regsub(^${CHALLENGES},)].%[var(txn.thumbprint)]" if token { var(txn.thumbprint) -m found }
  http-request deny deny_status 404 if challenge
  # The host is one of the map's, so it names no other place.
  http-request redirect prefix https://%[req.hdr(host),host_only,lower] code 301
`;
}

/**
 * Clients of the store from outside: bytes of TLS, which the store's daemon ends. Here they are bounded, and what is no greeting of TLS goes no
 * further; who they are is not for the front to say.
 */
function storeClients({ listen, limits, times, store }: FrontDescription): string {
  return `frontend store
  mode tcp
  bind ${listen.address}:${listen.storePort}
  maxconn ${limits.storeConnections}
  # Each handshake costs the store's daemon, which apps wait for: more than these a second wait here.
  rate-limit sessions ${STORE_HANDSHAKES}
  acl shared src ${limits.sharedSources.join(' ')}
  tcp-request connection track-sc0 src,ipmask(32,64) table store-sources if !shared
  tcp-request connection reject if { sc0_conn_cur(store-sources) gt ${STORE_PER_SOURCE} }
  # Those do not count towards what is let through in a second: who connects over and over waits by itself.
  tcp-request connection reject if { sc0_conn_rate(store-sources) gt ${STORE_NEW_PER_SOURCE} }
  tcp-request inspect-delay ${times.request}
  tcp-request content accept if { req.ssl_hello_type 1 }
  tcp-request content reject
  timeout client ${times.silence}
  default_backend store-clients

backend store-sources
  stick-table type ipv6 size 10k expire 1m store conn_cur,conn_rate(1s)

backend store-clients
  mode tcp
  # The store asks a client that says nothing for a minute whether it is there.
  timeout server ${times.silence}
  server store unix@${store} maxconn ${limits.storeConnections}
`;
}

/** As the driver says it. */
const TOO_LARGE = JSON.stringify({
  code: 'BODY_TOO_LARGE',
  message: 'a body of more than 16 KiB is not read',
});

/** What the driver answers by itself. */
function own({ answers, limits, times }: FrontDescription): string {
  return `backend requests
  stick-table type ipv6 size 100k expire 1m store conn_cur
backend all-requests
  stick-table type integer size 1 expire 1m store conn_cur
backend own-requests
  stick-table type ipv6 size 100k expire 1m store conn_cur

backend own
  http-request track-sc3 src,ipmask(32,64) table own-requests unless { src ${limits.sharedSources.join(' ')} }
  http-request deny deny_status 429 if { sc_conn_cur(3) gt ${limits.ownPerSource} }
  # A body that comes slowly waits here, and not in one of the driver's connections; there is none of more than a buffer.
  http-request wait-for-body time ${times.request}
  http-request deny status 413 content-type application/json string ${quoted(TOO_LARGE)} unless { internal.htx.has_eom }
  # Evidence takes a quote, and a quote its time.
  timeout server 100s
  server driver unix@${answers} maxconn 100
`;
}

/** One of the servers is in use, two while the app moves, or none: then the driver says why. */
function site({ answers, times }: FrontDescription, name: string, more = ''): string {
  const speakHttp2 = names.servers.h2c.map((server) => `{ srv_is_up(${name}/${server}) }`).join(' || ');
  const lines = (servers: readonly string[], options: string): string =>
    servers.map((server) => `  server ${server} 127.0.0.1:1${options} disabled\n`).join('');
  return `backend ${name}
${more}  http-request del-header te unless ${speakHttp2}
  http-response set-timeout server ${times.silence}
${lines(names.servers['http/1.1'], '')}${lines(names.servers.h2c, ' proto h2')}  server waiting unix@${answers} maxconn 100 backup
`;
}

/** In HAProxy's strong quotes, in which nothing has a meaning but their end. */
function quoted(text: string): string {
  const line = text.replaceAll(/\n\s*/g, '');
  if (!/^[ -&(-~]*$/.test(line)) throw new Error(`cannot be quoted: ${line}`);
  return `'${line}'`;
}
