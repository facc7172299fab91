#!/usr/bin/env bash
# Makes the certificates that tests present, for `localhost` and 127.0.0.1. Their keys are public and protect nothing.
# They last for a hundred years; run this again if they have to change.
set -eu
cd "$(dirname "$0")"
name='/CN=throughline tests'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -keyout /dev/null -out stranger.pem \
    -subj "$name, an authority that signed nothing" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -keyout authority.key -out authority.pem \
    -subj "$name, the authority" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj "$name, the server" 2>/dev/null
openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 36500 -out server.pem \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n') 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -out client.csr -subj "$name, a client" 2>/dev/null
openssl x509 -req -in client.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 36500 -out client.pem \
    -extfile <(printf 'subjectAltName=DNS:client\nbasicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n') 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -keyout alone.key -out alone.pem \
    -subj "$name, signed by itself" -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' 2>/dev/null
rm -f server.csr client.csr authority.key authority.srl
