#!/usr/bin/env bash
# Score a checkpoint in several processes of this machine, one per GPU (or on CPUs, without):
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT in each.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
config=$1
checkpoint=$2
processes=$3
shift 3
if [ "${NNODES:-1}" -gt 1 ]; then
    where=(--nnodes "$NNODES" --node_rank "${NODE_RANK:-0}"
        --master_addr "${MASTER_ADDR:?set it to the address of the first machine}" --master_port "${PORT:-29500}")
else
    where=(--standalone)
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${where[@]}" --nproc_per_node "$processes" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
