/** Who comes into the store from outside of the VM. */
import { type Mutation, rowsOf } from '../mutation.ts';

const CLIENTS = ['guest/kv/clients.ts', 'test/kv/clients.test.ts'] as const;
const TIME = ['guest/kv/chain-time.ts', 'guest/kv/chain-time.test.ts'] as const;
const NAMED = ['lib/protocol/store-clients.ts', 'lib/protocol/store-clients.test.ts'] as const;
const CERTIFICATE = 'guest/replicator/store-certificate.test.ts';

const row = rowsOf('store');

export const storeClients: readonly Mutation[] = [
  row(
    'that a client shows a certificate',
    CLIENTS,
    'rejectUnauthorized: true',
    'rejectUnauthorized: false',
    'no certificate',
  ),
  row(
    "that a client's certificate is signed by a named authority itself",
    CLIENTS,
    'authorities.filter((one) => shown.checkIssued(one) && shown.verify(one.publicKey))',
    'authorities',
    'an authority below the one that is named',
  ),
  row(
    "that an app's clients are certified by its own authorities",
    CLIENTS,
    'ca: authorities.map((authority) => authority.toString()),',
    'ca: [...this.#byApp.values()].flatMap((one) => one.authorities.map((own) => own.toString())),',
    'of another app it has nothing',
  ),
  row(
    'that a client asks for a name that is open',
    CLIENTS,
    'const opened = this.#byName.get(name.toLowerCase());',
    'const opened = this.#byName.get(name.toLowerCase()) ?? [...this.#byApp.values()][0];',
    'a name that network.json does not have',
  ),
  row(
    'that keys of clients are revoked',
    CLIENTS,
    'if (revoked.has(hashOf(shown.publicKey)))',
    'if (revoked.has(hashOf(shown.publicKey)) && revoked.size === 0)',
    'a key that was revoked: refused',
  ),
  row(
    'that a revoked key is one however it is written',
    CLIENTS,
    'if (!usualOf(key)?.equals(shown))',
    'if (shown.length === 0)',
    'a key that was revoked, written in another way',
  ),
  row(
    'that one authority may have several certificates for its key',
    CLIENTS,
    '!issuers.some((issuer) => isInTime(issuer, now))',
    '!isInTime(issuers[0]!, now)',
    'an authority with a new certificate for its key',
  ),
  row(
    "that an authority is over by the chain's time",
    CLIENTS,
    ' || !issuers.some((issuer) => isInTime(issuer, now))',
    '',
    'an authority whose only certificate is over',
  ),
  row(
    'that a connection has one handshake, and so one certificate',
    ['guest/kv/api/door.ts', CLIENTS[1]],
    ' | constantsOfTls.SSL_OP_NO_RENEGOTIATION',
    '',
    'there is one handshake of a connection',
  ),
  row(
    'that who a connection is of is judged once',
    CLIENTS,
    'this.#shown.get(socket) ?? this.#judge(socket as TLSSocket)',
    'this.#judge(socket as TLSSocket)',
    'who a connection is of is judged once',
  ),
  row(
    "the part of the connections that one app's clients have",
    CLIENTS,
    'if (opened.connections >= this.#perApp)',
    'if (opened.connections < 0)',
    'clients of one app have their part of the connections',
  ),
  row(
    'that who connects over and over keeps nobody waiting',
    ['guest/tls/front-config.ts', CLIENTS[1]],
    'sc0_conn_rate(store-sources) gt ',
    'sc0_conn_rate(store-sources) gt 99999',
    'who connects over and over',
  ),
  row(
    "that a client's certificate is over by the chain's time",
    CLIENTS,
    ' && validToDate.getTime() / 1000 >= now',
    '',
    'a certificate that is over',
  ),
  row(
    "that it is not one yet by the chain's time",
    CLIENTS,
    'validFromDate.getTime() / 1000 <= now + SKEW && ',
    '',
    'a certificate that is not one yet',
  ),
  row(
    'that nobody outside comes in while the time is not known',
    CLIENTS,
    'const now = this.#options.time.now();',
    'const now = this.#options.time.now() ?? Date.now() / 1000;',
    "a chain's time that is not known",
  ),
  row(
    "the form of a client's common name",
    CLIENTS,
    "typeof commonName !== 'string' || !/^[ -~]{1,64}$/.test(commonName)",
    "typeof commonName !== 'string'",
    'a name that is none',
  ),
  row(
    'that a client outside is a user of the app',
    CLIENTS,
    'await this.#options.requireUser({ caller, token: undefined, signal, deadline: undefined });',
    'void signal;',
    'a name of no user',
  ),
  row(
    'that outside nobody is everybody where there are no users',
    ['guest/kv/auth/namespace-auth.ts', CLIENTS[1]],
    "    if (!this.#state.enabled && caller.outside === true) throw etcdError('permissionDenied');\n",
    '',
    'where the app has no users',
  ),
  row(
    'that a connection outside ends with what let it in',
    CLIENTS,
    '      return false;\n',
    '      return socket !== undefined;\n',
    'a connection ends soon after its user is gone',
  ),
  row(
    "that the chain's time is not known without a word of the replicator's",
    TIME,
    'since > BELIEVED || ',
    '',
    'is known for a minute without one',
  ),
  row(
    'nor an hour after the newest block',
    TIME,
    ' || now - this.#reached.timestamp > STALE_AFTER_SECONDS',
    '',
    'an hour after the newest block',
  ),
  row(
    "that one name leads to one app's clients",
    NAMED,
    'if (other !== undefined)',
    'if (other === app)',
    'a name that two apps have',
  ),
  row(
    'that who certifies clients is an authority',
    NAMED,
    'return new X509Certificate(pem).ca;',
    'return new X509Certificate(pem).raw.length > 0;',
    'a certificate of no authority',
  ),
  row(
    "that the store's certificate is for the names of network.json",
    ['guest/replicator/siblings.ts', CERTIFICATE],
    'altNames: [...storeNames(app)]',
    "altNames: ['localhost', ...storeNames(app)]",
    "it is by the app's authority, for the names of network.json",
  ),
  row(
    'that there is none for an app without clients',
    ['guest/replicator/store-names.ts', CERTIFICATE],
    'Object.hasOwn(clients, app) ? clients[app] : undefined',
    'clients[app]',
    'nothing for constructor',
  ),
];
