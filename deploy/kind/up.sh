#!/usr/bin/env bash
# A cluster of kind (https://kind.sigs.k8s.io) with Seine and the demo shop in it, for people with Docker:
#   deploy/kind/up.sh         up.sh down removes it
# Needs docker, kind and kubectl, a kernel of 6.1 or later and cgroup v2. Nothing is pulled but kind's own node image and
# what deploy/Dockerfile is made from.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
top=$(cd -- "$here/../.." && pwd)
cluster=seine
image=seine.dev/seine:0.1.0 # what `seine install` and the demo name

for program in docker kind kubectl; do
    command -v "$program" >/dev/null || {
        printf '%s is not in the PATH\n' "$program" >&2
        exit 1
    }
done

if [[ ${1:-up} == down ]]; then
    exec kind delete cluster --name "$cluster"
fi

docker build -f "$top/deploy/Dockerfile" -t "$image" "$top"
kind get clusters | grep -qxF "$cluster" || kind create cluster --name "$cluster" --config "$here/cluster.yaml"
kind load docker-image --name "$cluster" "$image"

there() { kubectl --context "kind-$cluster" "$@"; }
docker run --rm "$image" install | there apply --server-side -f -
there rollout status -n seine-system daemonset/seine-agent --timeout=180s
there apply --server-side -k "$top/deploy/demo/kubernetes"
for name in front catalog prices visitor; do
    there rollout status -n shop "deployment/$name" --timeout=180s
done

cat <<TXT

kubectl --context kind-$cluster get pods -n shop
kubectl --context kind-$cluster exec -n seine-system ds/seine-agent -- seine status
kubectl --context kind-$cluster logs -n shop deploy/visitor --tail=1
curl http://127.0.0.1:30080/
$here/up.sh down
TXT
