/** TCB signer, root: of both documents. */
const TCB_SIGNER_CHAIN =
  '-----BEGIN CERTIFICATE-----\nMIIBsjCCAVigAwIBAgIQCvLbFE7lFLN9ZMybGMzfHzAKBggqhkjOPQQDAjBIMSEw\nHwY' +
  'DVQQDDBhEc3RhY2sgU2ltdWxhdGVkIFJvb3QgQ0ExIzAhBgNVBAoMGk5vdCBJ\nbnRlbDogc2ltdWxhdGlvbiBvbmx5MB4XDT' +
  'IwMDEwMTAwMDAwMFoXDTQ5MTIzMTIz\nNTk1OVowTDElMCMGA1UEAwwcRHN0YWNrIFNpbXVsYXRlZCBUQ0IgU2lnbmluZzEj\n' +
  'MCEGA1UECgwaTm90IEludGVsOiBzaW11bGF0aW9uIG9ubHkwWTATBgcqhkjOPQIB\nBggqhkjOPQMBBwNCAARPUjHCBiTXoZx' +
  'm4st3e7bu9jIpI0cPSKled2ML6gV2osmt\nGjXosjswos7be1VYJR+c3juLkMxcQQa50G9MXcVZoyAwHjAOBgNVHQ8BAf8EBA' +
  'MC\nBsAwDAYDVR0TAQH/BAIwADAKBggqhkjOPQQDAgNIADBFAiEA4JSYC26MhXOF+9Ec\nZAauDKtvvIPew856f00IxkMXF1UC' +
  'IFUL7COYmypHjBHou5cBrJocerFDRty4rkO1\nRuEKCpTn\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE--' +
  '---\nMIIBtjCCAVugAwIBAgIRAPnHpwztIIPIUJvjydrdBB8wCgYIKoZIzj0EAwIwSDEh\nMB8GA1UEAwwYRHN0YWNrIFNpbXV' +
  'sYXRlZCBSb290IENBMSMwIQYDVQQKDBpOb3Qg\nSW50ZWw6IHNpbXVsYXRpb24gb25seTAeFw0yMDAxMDEwMDAwMDBaFw00OT' +
  'EyMzEy\nMzU5NTlaMEgxITAfBgNVBAMMGERzdGFjayBTaW11bGF0ZWQgUm9vdCBDQTEjMCEG\nA1UECgwaTm90IEludGVsOiBz' +
  'aW11bGF0aW9uIG9ubHkwWTATBgcqhkjOPQIBBggq\nhkjOPQMBBwNCAAS9PYHhkdWDt/mrBmLaGgQz+7yqgHOOOO2VlUoYOlG' +
  'p33biYrDk\nX9mTJLQUqfgK50rw7CcYheq9Lkg7Km1ujqbHoyYwJDAOBgNVHQ8BAf8EBAMCAQYw\nEgYDVR0TAQH/BAgwBgEB/' +
  'wIBATAKBggqhkjOPQQDAgNJADBGAiEAtyGPohC828Ip\nDAgNxOdquH/P0i7tfGfHlfE7FcIU27YCIQC5vJXULicaI0QqSA8p' +
  '89mOoPK7SrI/\nTd6epDnlLxmDIQ==\n-----END CERTIFICATE-----\n';

/**
 * The simulated platform's collateral: what simulatedCollateral() of simulated-collateral.ts makes; a test holds the two
 * together. It is as constant as the simulated root, and as worthless: its signing keys are published.
 */
import type { Collateral } from '../collateral/collateral.ts';

export const PUBLISHED_SIMULATED_COLLATERAL: Collateral = {
  pck_crl_issuer_chain:
    '-----BEGIN CERTIFICATE-----\nMIIBvTCCAWOgAwIBAgIRAOBGoHC22AnYQSkiWV/zBZQwCgYIKoZIzj0EAwIwSDEh\nMB8' +
    'GA1UEAwwYRHN0YWNrIFNpbXVsYXRlZCBSb290IENBMSMwIQYDVQQKDBpOb3Qg\nSW50ZWw6IHNpbXVsYXRpb24gb25seTAeFw' +
    '0yMDAxMDEwMDAwMDBaFw00OTEyMzEy\nMzU5NTlaMFAxKTAnBgNVBAMMIERzdGFjayBTaW11bGF0ZWQgUENLIFBsYXRmb3Jt\n' +
    'IENBMSMwIQYDVQQKDBpOb3QgSW50ZWw6IHNpbXVsYXRpb24gb25seTBZMBMGByqG\nSM49AgEGCCqGSM49AwEHA0IABOXPVg/' +
    'fn5eGpzXWwNoTofCZ1px80+XLr7M2UZZ6\n3jjjsOnx6eacD893XrULYAfkqhU8iT2TqfMLq+n2smv8RF2jJjAkMA4GA1UdDw' +
    'EB\n/wQEAwIBBjASBgNVHRMBAf8ECDAGAQH/AgEAMAoGCCqGSM49BAMCA0gAMEUCIELU\nyWMW6tyFNWEzcip+1D3d7oJlcReX' +
    'Sf2xPdgp8FR/AiEAku7loof8L+JRRco6XEqi\nRJEVOLYvTfqwrKyQhSIUNCk=\n-----END CERTIFICATE-----\n-----BEG' +
    'IN CERTIFICATE-----\nMIIBtjCCAVugAwIBAgIRAPnHpwztIIPIUJvjydrdBB8wCgYIKoZIzj0EAwIwSDEh\nMB8GA1UEAww' +
    'YRHN0YWNrIFNpbXVsYXRlZCBSb290IENBMSMwIQYDVQQKDBpOb3Qg\nSW50ZWw6IHNpbXVsYXRpb24gb25seTAeFw0yMDAxMD' +
    'EwMDAwMDBaFw00OTEyMzEy\nMzU5NTlaMEgxITAfBgNVBAMMGERzdGFjayBTaW11bGF0ZWQgUm9vdCBDQTEjMCEG\nA1UECgwa' +
    'Tm90IEludGVsOiBzaW11bGF0aW9uIG9ubHkwWTATBgcqhkjOPQIBBggq\nhkjOPQMBBwNCAAS9PYHhkdWDt/mrBmLaGgQz+7y' +
    'qgHOOOO2VlUoYOlGp33biYrDk\nX9mTJLQUqfgK50rw7CcYheq9Lkg7Km1ujqbHoyYwJDAOBgNVHQ8BAf8EBAMCAQYw\nEgYDV' +
    'R0TAQH/BAgwBgEB/wIBATAKBggqhkjOPQQDAgNJADBGAiEAtyGPohC828Ip\nDAgNxOdquH/P0i7tfGfHlfE7FcIU27YCIQC5' +
    'vJXULicaI0QqSA8p89mOoPK7SrI/\nTd6epDnlLxmDIQ==\n-----END CERTIFICATE-----\n',
  root_ca_crl:
    '3081e1308187020101300a06082a8648ce3d04030230483121301f06035504030c1844737461636b2053696d756c6174' +
    '656420526f6f7420434131233021060355040a0c1a4e6f7420496e74656c3a2073696d756c6174696f6e206f6e6c7917' +
    '0d3230303130313030303030305a170d3439313233313233353935395aa00e300c300a0603551d140403020101300a06' +
    '082a8648ce3d0403020349003046022100a4cf4aa4c37152fc85a9773690390da29b6a9174012c42e340aa0749c46dba' +
    '8e022100eb4dcfeaaa296f77cd6554eb632330a6932fd3cec949964c4499cba72778b487',
  pck_crl:
    '3082011a3081c2020101300a06082a8648ce3d04030230503129302706035504030c2044737461636b2053696d756c61' +
    '7465642050434b20506c6174666f726d20434131233021060355040a0c1a4e6f7420496e74656c3a2073696d756c6174' +
    '696f6e206f6e6c79170d3230303130313030303030305a170d3439313233313233353935395a3031302f02105be4d60a' +
    'c383eca65c21537b8c41cdbd170d3230303130313030303030305a300c300a0603551d1504030a0101a00e300c300a06' +
    '03551d140403020101300a06082a8648ce3d0403020347003044022033a13813e9043666fb8a39ecd7bb3b49aa3126de' +
    'ed25d26cd8ea2ec7025be6de02206c1b4db722d874f7e45b7fef2847b0171ef313477dd2758035cd0c979efd3cba',
  tcb_info_issuer_chain: TCB_SIGNER_CHAIN,
  tcb_info:
    '{"id":"TDX","version":3,"issueDate":"2020-01-01T00:00:00Z","nextUpdate":"2049-12-31T23:59:59Z","' +
    'fmspc":"53494d000000","pceId":"0000","tcbType":0,"tcbEvaluationDataNumber":1,"tdxModule":{"mrsig' +
    'ner":"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000' +
    '000000","attributes":"0000000000000000","attributesMask":"FFFFFFFFFFFFFFFF"},"tdxModuleIdentitie' +
    's":[{"id":"TDX_01","mrsigner":"00000000000000000000000000000000000000000000000000000000000000000' +
    '0000000000000000000000000000000","attributes":"0000000000000000","attributesMask":"FFFFFFFFFFFFF' +
    'FFF","tcbLevels":[{"tcb":{"isvsvn":1},"tcbDate":"2020-01-01T00:00:00Z","tcbStatus":"UpToDate"},{' +
    '"tcb":{"isvsvn":0},"tcbDate":"2019-01-01T00:00:00Z","tcbStatus":"OutOfDate"}]}],"tcbLevels":[{"t' +
    'cb":{"sgxtcbcomponents":[{"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1},{' +
    '"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1},{"svn":1}],"pcesv' +
    'n":1,"tdxtcbcomponents":[{"svn":1},{"svn":0},{"svn":1},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{' +
    '"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0}]},"tcbD' +
    'ate":"2020-01-01T00:00:00Z","tcbStatus":"UpToDate"},{"tcb":{"sgxtcbcomponents":[{"svn":0},{"svn"' +
    ':0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"' +
    'svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0}],"pcesvn":0,"tdxtcbcomponents":[{"svn":0},{"svn"' +
    ':0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0},{"' +
    'svn":0},{"svn":0},{"svn":0},{"svn":0},{"svn":0}]},"tcbDate":"2019-01-01T00:00:00Z","tcbStatus":"' +
    'OutOfDate","advisoryIDs":["DSTACK-SIM-00001"]}]}',
  tcb_info_signature:
    'c23eb15e62fc96c7c5aabbe92e8cc4ce5cacad9945c6b8258ea83c8bf014fec1ac296759ec2218fc2021b5b66b48e825' +
    '4ad4ad8254adac42639ff62511d006e2',
  qe_identity_issuer_chain: TCB_SIGNER_CHAIN,
  qe_identity:
    '{"id":"TD_QE","version":2,"issueDate":"2020-01-01T00:00:00Z","nextUpdate":"2049-12-31T23:59:59Z"' +
    ',"tcbEvaluationDataNumber":1,"miscselect":"00000000","miscselectMask":"FFFFFFFF","attributes":"0' +
    '1000000000000000000000000000000","attributesMask":"FBFFFFFFFFFFFFFF0000000000000000","mrsigner":' +
    '"A5125EBA30BA9A09C7BABB68F5F89DA2E906084D8C8B639FC490D88633A66BCA","isvprodid":2,"tcbLevels":[{"' +
    'tcb":{"isvsvn":1},"tcbDate":"2020-01-01T00:00:00Z","tcbStatus":"UpToDate"}]}',
  qe_identity_signature:
    'c520d06bb62f2dfbdf98e4c5fadca1a63abbfade615515c2b089d2468841af980cf2bd729ede0f77dbaaed9729ef839a' +
    '0d4bbca18adc08e8307522edc822914d',
};
