/** The website's front: what a visitor sends, what an app answers, and what the driver tells HAProxy. */
import { type Mutation, one } from '../mutation.ts';

const REQUESTS = 'guest/tls/front-requests.test.ts';
const LIMITS = 'guest/tls/front-limits.test.ts';
const DRIVER = 'guest/tls/front-driver.test.ts';
const CONFIG = 'guest/tls/front-config.ts';
const PLAIN = 'guest/tls/plain-http.test.ts';
const LUA = 'guest/tls/front.lua';

export const frontRules: readonly Mutation[] = [
  one(
    'front',
    'the new address being there before the old one goes',
    [
      'guest/tls/front.ts',
      'const next = servers.find((server) => addressOf(server) === undefined) ?? servers[0];',
      'const next = servers.find((server) => addressOf(server) !== undefined) ?? servers[0];',
    ],
    [DRIVER, 'no visitor notices that an app moves'],
  ),
  one(
    'front',
    'requests waiting while an app is replaced',
    [CONFIG, '  http-request lua.wait_for_app if', '  http-request set-var(txn.nothing) int(0) if'],
    [DRIVER, 'requests wait for the next one'],
  ),
  one(
    'front',
    'the old container going on until the front leads elsewhere',
    ['guest/kubernethes/app.ts', 'while (!isDone()) {', 'while (isDone() && !isDone()) {'],
    ['guest/kubernethes/rollout.test.ts', 'still finds the old container'],
  ),
  one(
    'front',
    'an answer of before a switch saying nothing of it',
    ['guest/kubernethes/front-turns.ts', 'this.#done > given', 'this.#done >= given'],
    ['guest/kubernethes/front-turns.test.ts', 'only an answer that was given after the mark'],
  ),
  one(
    'front',
    "the gate until the driver has sent the site's key",
    [CONFIG, '-m str yes }', '-m found }'],
    [DRIVER, 'nobody gets in before it has'],
  ),
  one(
    'front',
    "dropping a client's claims of where it comes from",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    [CONFIG, '^(${CLAIMS}|${HOP})$ -m reg', '^(${HOP})$ -m reg'],
    [REQUESTS, 'say where a request came from'],
  ),
  one(
    'front',
    "dropping names that CGI's convention changes",
    [CONFIG, 'http-restrict-req-hdr-names delete', 'http-restrict-req-hdr-names preserve'],
    [REQUESTS, "which CGI's convention turns"],
  ),
  one(
    'front',
    'dropping what Connection names',
    [LUA, 'if not kept[name] then txn.http:req_del_header(name) end', ''],
    [REQUESTS, 'say where a request came from'],
  ),
  one(
    'front',
    'passing on offers of WebSocket only',
    [LUA, 'includes(offers, "websocket")', '#offers > 0'],
    [REQUESTS, 'an offer of '],
  ),
  one(
    'front',
    'asking for one host',
    [CONFIG, 'unless { req.hdr_cnt(host) eq 1 }', 'unless { always_true }'],
    [REQUESTS, 'is one, and the one'],
  ),
  one(
    'front',
    'the bound of a body of unknown length',
    [LUA, 'if self.left < 0 then', 'if self.left < -1e12 then'],
    [LIMITS, 'a body that is too large'],
  ),
  one(
    'front',
    'the time for a body that comes byte by byte',
    [LUA, 'core.now().sec > self.until_second', 'core.now().sec > self.until_second + 1e9'],
    ['guest/tls/slow-body.test.ts', 'is not waited for without end'],
  ),
  one(
    'front',
    'the bound of connections by source',
    [
      CONFIG,
      'connection reject if { sc0_conn_cur(sources) gt ',
      'connection reject if { sc0_conn_cur(sources) gt 1000',
    ],
    [LIMITS, 'connections in all and by source'],
  ),
  one(
    'front',
    'refusing a status that HTTP does not have',
    [CONFIG, '  http-response deny deny_status 502 if { status gt 599 }\n', ''],
    [LIMITS, 'an app that answers'],
  ),
  one(
    'front',
    "refusing the node's own addresses",
    ['guest/tls/front.ts', 'assertForeign(host);', 'void host;'],
    [DRIVER, 'never leads to an address'],
  ),
  one(
    'front',
    "answering for the site's names only, without TLS",
    [CONFIG, 'deny_status 404 unless reads known', 'deny_status 404 unless reads'],
    [PLAIN, 'gets nothing for a name that is not ours'],
  ),
  one(
    'front',
    "going by acme-tls/1 alone for a challenge's certificate",
    [CONFIG, ' !{ req.ssl_alpn -m reg ^(?!acme-tls/1$) }', ''],
    ['guest/tls/alpn.test.ts', 'never does, by the same name'],
  ),
  one(
    'front',
    'refusing headers that name the inside',
    [CONFIG, '  tcp-request session reject if proxied inside\n', ''],
    ['test/proxied.test.ts', 'an address of the inside'],
  ),
  one(
    'front',
    'asking for a header where one is due, and taking none elsewhere',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    [CONFIG, '${port} id 1${how}', '${port} id 1 accept-proxy${how}'],
    ['test/proxied.test.ts', "a visitor's own word is no header"],
  ),
  one(
    'front',
    'the form of a token',
    [CONFIG, '[A-Za-z0-9_-]{1,200}$', ''],
    [PLAIN, 'gets nothing for a token with a'],
  ),
  one(
    'front',
    'binding the agent to gateways',
    [
      'guest/agent/main.ts',
      '[Array.from({ length: BRIDGES }, (_, index) => gatewayOf(index)), guestPorts.agent]',
      "[['0.0.0.0'], guestPorts.agent]",
    ],
    ['test/agent-address.test.ts', 'listens on no other address'],
  ),
  one(
    'front',
    'the bound of requests at once by source',
    [CONFIG, 'sc1_conn_cur gt ', 'sc1_conn_cur gt 1000'],
    [LIMITS, 'requests at once'],
  ),
  one(
    'front',
    'the bound of requests at once in all',
    [CONFIG, 'sc2_conn_cur gt ', 'sc2_conn_cur gt 1000'],
    [LIMITS, 'requests at once'],
  ),
  one(
    'front',
    'ending the requests of a visitor who has left',
    [CONFIG, '  option abortonclose\n', ''],
    [LIMITS, 'requests at once'],
  ),
  one(
    'front',
    'keeping few connections to an app for a visitor',
    [CONFIG, 'max-session-srv-conns $', 'max-session-srv-conns 100 #$'],
    [LIMITS, 'requests at once'],
  ),
  one(
    'front',
    'the bound by source of what the driver answers',
    [CONFIG, 'sc_conn_cur(3) gt ', 'sc_conn_cur(3) gt 1000'],
    [LIMITS, "an answer of the node's own that nobody reads"],
  ),
  one(
    'front',
    'looking at the end of a body',
    [LUA, 'if has_trailer(txn) then', 'if false then'],
    [REQUESTS, 'reach no app: they come after'],
  ),
  one(
    'front',
    'looking at the end of a body that is there as a whole',
    [CONFIG, ' || { internal.htx_blk.type(tail) -m str HTX_BLK_EOT }', ''],
    [REQUESTS, 'reach no app: they come with everything'],
  ),
  one(
    'front',
    'looking at the end of a body that has a length',
    [CONFIG, ' || !{ internal.htx.has_eom } !{ req.hdr(upgrade) -m found }', ''],
    [REQUESTS, 'over HTTP/2 neither'],
  ),
  one(
    'front',
    'an app gets a target in the usual form only',
    [CONFIG, '!{ url -m str * }\n', '!{ url -m str * } !{ req.ver 2.0 }\n'],
    [REQUESTS, 'is one, and the one'],
  ),
  one(
    'front',
    'an address that is no machine',
    ['guest/tls/front.ts', 'if (first === 0 || first >= 224) {', 'if (first > 255) {'],
    [DRIVER, 'which is no container'],
  ),
  one(
    'front',
    'one spelling of an address',
    ['lib/protocol/schema.ts', '|[1-9]?\\\\d)(', '|\\\\d{1,3})('],
    [DRIVER, 'the host .* is refused'],
  ),
  one(
    'front',
    'letting go of an address also when the new one is refused',
    [
      'guest/tls/front.ts',
      'if (server === kept || addressOf',
      'if (kept === undefined || server === kept || addressOf',
    ],
    [DRIVER, 'which is no container'],
  ),
  one(
    'front',
    'going on with other sites when one is refused',
    [
      'guest/tls/front.ts',
      'kept = next;\n        }\n      } catch (error) {\n        refuse(error);',
      'kept = next;\n        }\n      } catch (error) {\n        throw error;',
    ],
    [DRIVER, 'what is refused holds up nothing else'],
  ),
  one(
    'front',
    'going on with other certificates when one is refused',
    [
      'guest/tls/front.ts',
      'refuse(error);\n      }\n      listed.delete(file);',
      'throw error;\n      }\n      listed.delete(file);',
    ],
    [DRIVER, 'what is refused holds up nothing else'],
  ),
  one(
    'front',
    'ending what another certificate left half done',
    ['guest/tls/front.ts', 'if (pending !== undefined) await', 'if (pending === file) await'],
    [DRIVER, 'what is refused holds up nothing else'],
  ),
  one(
    'front',
    'comparing certificates with their issuers',
    ['guest/tls/front.ts', ' && this.#sent.get(file) === all', ''],
    [DRIVER, 'with other issuers'],
  ),
  one(
    'front',
    'waiting for a body before the driver is asked',
    [
      CONFIG,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
      '  http-request wait-for-body time ${times.request}\n  http-request deny status 413 content-type application/json string ${quoted(TOO_LARGE)} unless { internal.htx.has_eom }\n',
      '',
    ],
    [LIMITS, 'that comes slowly keeps it from nobody'],
  ),
  one(
    'front',
    'that nobody is led to where a silent kubernethes said long ago',
    ['guest/tls/front-state.ts', 'now - this.#heldAt < LED_FOR && now - at', 'now - at'],
    ['guest/tls/front-state.test.ts', 'while kubernethes is away visitors are led as before'],
  ),
  one(
    'front',
    'that an address is believed no more once it may be of another app',
    [
      'guest/tls/front-state.ts',
      "if (said === 'gone' && now - this.#heldAt < LED_FOR) this.#heldAt",
      "if (said === 'gone') this.#heldAt",
    ],
    ['guest/tls/front-state.test.ts', 'a kubernethes that is gone changes nothing, for ten minutes'],
  ),
  one(
    'front',
    'that a supervisor which has not taken over yet does not say that nothing runs',
    [
      'guest/kubernethes/main.ts',
      '    if (isLeftOver())\n',
      '    if (isLeftOver() && turns === undefined)\n',
    ],
    ['guest/kubernethes/main.test.ts', 'the daemon answers its siblings at once'],
  ),
];
