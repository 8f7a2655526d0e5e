#!/bin/bash
# Trains a stage on two machines of eight GPUs, with Slurm. The arguments are those of `python -m train`:
#   sbatch train/presets/accelerate/slurm.sh --config train/presets/dynamic.yaml --out runs/dynamic
# When the time limit is reached, the same command continues from the last checkpoint (--save_every).
#SBATCH --job-name=facelivenet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.txt
set -euo pipefail
GPUS=8
main=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# one launcher on each machine, which starts a process for each GPU; $SLURM_NODEID is the number of its machine
srun --kill-on-bad-exit=0 bash -c "exec accelerate launch \
    --config_file train/presets/accelerate/two_machines.yaml \
    --num_machines $SLURM_NNODES --num_processes $((SLURM_NNODES * GPUS)) --machine_rank \$SLURM_NODEID \
    --main_process_ip $main --main_process_port $((20000 + SLURM_JOB_ID % 20000)) \
    -m train \"\$@\"" train "$@"
