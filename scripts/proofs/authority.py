"""The certificates of the proofs that need one of an authority's: ca.pem, edge.pem and edge.key. Needs openssl."""

import subprocess


def certificates(directory):
    """An authority, and a certificate that it has signed, for localhost."""
    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "365", "-subj", "/CN=authority of this proof",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *key, "-subj", "/CN=localhost", "-keyout", "edge.key", "-out", "edge.csr")
    (directory / "edge.ext").write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "edge.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "90",
            "-extfile", "edge.ext", "-out", "edge.pem")
