/**
 * The two roots that evidence may end at. Which one a verifier accepts is part of its measured image (its flavour), never
 * of a file that the host writes. A root is all that a verifier has by itself: collateral is always brought.
 */
import type { Flavour } from '../../protocol/network-config.ts';
import { encodePem } from '../bytes/pem.ts';
import { SIMULATED_ROLES } from '../simulated/roles.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { ISSUED_BY_INTEL } from './intel-issued.ts';

export interface TrustRoot {
  /** `given` is one that the user of the command line brought. */
  readonly name: 'intel' | 'simulated' | 'given';
  /** The root certificate, DER and PEM; compared byte for byte. */
  readonly certificate: Uint8Array;
  readonly pem: string;
  /** The same, parsed. */
  readonly root: Certificate;
  /** Certificates that it issued and that came with it, by PEM. */
  readonly issued: ReadonlyMap<string, Certificate>;
  /** Common names of the certificates that may stand in each place of a chain. */
  readonly roles: {
    readonly root: string;
    readonly intermediates: readonly string[];
    readonly leaf: string;
    /** Signs TCB info and QE identities. */
    readonly tcbSigner: string;
  };
}

/** @param issued certificates, DER, that are known to be signed by this root */
export function defineTrustRoot(
  root: Pick<TrustRoot, 'name' | 'certificate' | 'roles'>,
  issued: readonly Uint8Array[] = [],
): TrustRoot {
  return {
    ...root,
    pem: encodePem(root.certificate),
    root: parseCertificate(root.certificate),
    issued: new Map(issued.map((der) => [encodePem(der), parseCertificate(der)])),
  };
}

/** The trust root of an image of this flavour. */
export function trustRootOf(flavour: Flavour): TrustRoot {
  return flavour === 'production' ? INTEL_ROOT : SIMULATED_ROOT;
}

/**
 * Intel SGX Root CA, serial 22650cd65a9d3489f383b49552bf501b392706ac, valid from 2018-05-21 to 2049-12-31; published at
 * https://certificates.trustedservices.intel.com/IntelSGXRootCA.der
 */
export const INTEL_ROOT: TrustRoot = defineTrustRoot(
  {
    name: 'intel',
    certificate: fromBase64(
      'MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIwaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJv' +
        'b3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJ' +
        'BgNVBAYTAlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0Ex' +
        'GjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYT' +
        'AlVTMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi71OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL' +
        '0MxO4mqsyYjlBalTVYxFP2sJBK5zlKOBuzCBuDAfBgNVHSMEGDAWgBQiZQzWWp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJ' +
        'MEegRaBDhkFodHRwczovL2NlcnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50ZWwuY29tL0ludGVsU0dYUm9vdENBLmRl' +
        'cjAdBgNVHQ4EFgQUImUM1lqdNInzg7SVUr9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYI' +
        'KoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9CiSDcNoowLuPRLsWGf/Yi7GSX94BgwTwgAiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZ' +
        'UGOdRQ7cvqRXaqI=',
    ),
    roles: {
      root: 'Intel SGX Root CA',
      intermediates: ['Intel SGX PCK Platform CA', 'Intel SGX PCK Processor CA'],
      leaf: 'Intel SGX PCK Certificate',
      tcbSigner: 'Intel SGX TCB Signing',
    },
  },
  ISSUED_BY_INTEL.map(fromBase64),
);

/** What simulated-certificates.ts makes; a test holds the two together. Its key is published: anyone may sign with it. */
export const SIMULATED_ROOT: TrustRoot = defineTrustRoot({
  name: 'simulated',
  certificate: fromBase64(
    'MIIBtjCCAVugAwIBAgIRAPnHpwztIIPIUJvjydrdBB8wCgYIKoZIzj0EAwIwSDEhMB8GA1UEAwwYRHN0YWNrIFNpbXVsYXRl' +
      'ZCBSb290IENBMSMwIQYDVQQKDBpOb3QgSW50ZWw6IHNpbXVsYXRpb24gb25seTAeFw0yMDAxMDEwMDAwMDBaFw00OTEyMzEy' +
      'MzU5NTlaMEgxITAfBgNVBAMMGERzdGFjayBTaW11bGF0ZWQgUm9vdCBDQTEjMCEGA1UECgwaTm90IEludGVsOiBzaW11bGF0' +
      'aW9uIG9ubHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS9PYHhkdWDt/mrBmLaGgQz+7yqgHOOOO2VlUoYOlGp33biYrDk' +
      'X9mTJLQUqfgK50rw7CcYheq9Lkg7Km1ujqbHoyYwJDAOBgNVHQ8BAf8EBAMCAQYwEgYDVR0TAQH/BAgwBgEB/wIBATAKBggq' +
      'hkjOPQQDAgNJADBGAiEAtyGPohC828IpDAgNxOdquH/P0i7tfGfHlfE7FcIU27YCIQC5vJXULicaI0QqSA8p89mOoPK7SrI/' +
      'Td6epDnlLxmDIQ==',
  ),
  roles: SIMULATED_ROLES,
});

function fromBase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'));
}
