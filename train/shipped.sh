#!/usr/bin/env bash
# From prepared corpora to the weights in pretrained/, and on to those a teacher taught, which are not shipped yet.
#
#   python -m face_data prepare lfw DATA/lfw DATA/facial_expressions corpora/lfw
#   python -m face_data prepare ferplus DATA/ferplus corpora/ferplus
#   python -m face_data prepare facial_expressions DATA/facial_expressions corpora/stills
#   python -m face_data prepare unlabelled DATA/mebeauty corpora/mebeauty
#   python -m face_data prepare unlabelled DATA/portraits corpora/portraits
#   train/shipped.sh
#
# Minutes are those of the shipped runs: one core of a CPU, bf16, beside other work. Each command goes on where it was
# stopped, so this script can be started again.
set -euo pipefail
cd "$(dirname "$0")/.."
composites="python -m train --config train/presets/record_composites.yaml"

# Without a teacher: no outside data to learn people from
python -m train --config train/presets/record.yaml --out runs/a                                          # 288 minutes
$composites --start_from runs/a --out runs/b --steps 1500 --learning_rate 5e-4 --network.sampled_identities 0     # 21
$composites --start_from runs/b --out runs/c --seed 1                                                             # 30
$composites --start_from runs/b --out runs/d --seed 2 --steps 2100 --learning_rate 6e-4 --composite_share 0.4     # 21
python -m train.export runs/c/last runs/d/last runs/b/last runs/m --challenge happy
$composites --start_from runs/m --out runs/f --seed 5 --steps 6000 --learning_rate 1e-3 --composites 10000 \
  --composite_share 0.4                                                                                           # 97
$composites --start_from runs/m --out runs/g --seed 6 --learning_rate 1e-3 --composites 10000 --composite_share 0.5 \
  --crop_scale 0.2 --shift 0.08                                                                                   # 50
python -m train.export runs/f/last runs/g/last runs/without_teacher --challenge happy  # shipped

# With dlib's network as a teacher: labelled outside data. The first run was stopped (Ctrl-C) at step 1,896 of 4,400,
# because the softmax over composites outweighed the teacher; the second has other weights and starts from it.
python -m train --config train/presets/distilled.yaml --start_from runs/without_teacher --out runs/distilled --seed 7 \
  --erase 0.25 --deception_share 0.18 --mixing_share 0.06 --steps 4400 --warmup_steps 200 \
  --network.identity_weight 0.25 --network.teacher_weight 1 --network.teacher_pairs_weight 15                     # 38
python -m train --config train/presets/distilled.yaml --start_from runs/distilled --out runs/distilled2 --seed 7  # 49
python -m train.export runs/distilled2/last runs/without_teacher runs/taught --challenge happy surprise --shares 0.7 0.3
python -m evaluation calibrate --model runs/taught --data corpora/lfw:9 corpora/ferplus:valid --far 0.001
