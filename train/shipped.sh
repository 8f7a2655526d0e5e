#!/usr/bin/env bash
# From prepared corpora to the weights in pretrained/.
#
#   python -m face_data prepare lfw DATA/lfw DATA/facial_expressions corpora/lfw
#   python -m face_data prepare ferplus DATA/ferplus corpora/ferplus
#   python -m face_data prepare facial_expressions DATA/facial_expressions corpora/stills
#   python -m face_data prepare unlabelled DATA/mebeauty corpora/mebeauty
#   python -m face_data prepare unlabelled DATA/portraits corpora/portraits
#   python -m face_data synthesize corpora/drawn --identities 320 --per-expression 2 --seed 1000
#   train/shipped.sh
#
# The minutes are those of the shipped runs: one core of a CPU with other work, bf16. Each command continues where it was
# interrupted, so this script can be started again.
set -euo pipefail
cd "$(dirname "$0")/.."
composites="python -m train --config train/presets/record_composites.yaml"

# Without a teacher: identities only from the corpora
python -m train --config train/presets/record.yaml --out runs/a                                          # 288 minutes
$composites --start_from runs/a --out runs/b --steps 1500 --learning_rate 5e-4 --network.sampled_identities 0     # 21
$composites --start_from runs/b --out runs/c --seed 1                                                             # 30
$composites --start_from runs/b --out runs/d --seed 2 --steps 2100 --learning_rate 6e-4 --composite_share 0.4     # 21
python -m train.export runs/c/last runs/d/last runs/b/last runs/m --challenge happy
$composites --start_from runs/m --out runs/f --seed 5 --steps 6000 --learning_rate 1e-3 --composites 10000 \
  --composite_share 0.4                                                                                           # 97
$composites --start_from runs/m --out runs/g --seed 6 --learning_rate 1e-3 --composites 10000 --composite_share 0.5 \
  --crop_scale 0.2 --shift 0.08                                                                                   # 50
python -m train.export runs/f/last runs/g/last runs/without_teacher --challenge happy  # shipped before

# With dlib's network as a teacher, which was trained on other labelled data. Three of these runs were stopped by Ctrl-C,
# and the next run started from their last weights: the first at step 1,896 of 4,400, because the softmax over composites
# had a larger gradient than the teacher; the third at step 776 of 3,600, because the machine was too slow; the sixth at
# step 2,778 of 7,000, for a shorter schedule. In the third and fourth run the targets of drawn faces were the teacher's
# vectors, in the later ones random vectors.
distilled="python -m train --config train/presets/distilled.yaml"
photographs="--train corpora/lfw:1,2,3,4,5,6,7,8 corpora/ferplus:train corpora/mebeauty corpora/portraits corpora/stills"
photographs+=" --train_weights 0.44 0.45 0.06 0.01 0.04"  # the first two runs had no drawn faces
$distilled $photographs --start_from runs/without_teacher --out runs/distilled --seed 7 --erase 0.25 \
  --deception_share 0.18 --mixing_share 0.06 --steps 4400 --warmup_steps 200 --network.identity_weight 0.25 \
  --network.teacher_weight 1 --network.teacher_pairs_weight 15                                                    # 38
$distilled $photographs --start_from runs/distilled --out runs/distilled2 --seed 7                                # 49
python -m train.export runs/distilled2/last runs/without_teacher runs/taught --challenge happy surprise --shares 0.7 0.3
$distilled --start_from runs/taught --out runs/distilled3 --seed 8 --steps 3600                                   # 24
$distilled --start_from runs/distilled3 --out runs/distilled4 --seed 8 --steps 1800 --warmup_steps 30 \
  --learning_rate 9e-4                                                                                            # 58
drawn="--train_weights 0.38 0.38 0.06 0.01 0.04 0.13"
$distilled $drawn --start_from runs/distilled4 --out runs/distilled5 --seed 8 --steps 320 --warmup_steps 10 \
  --ema_decay 0 --learning_rate 3e-4                                                          # 6, on two cores
python -m train.export runs/distilled5/last runs/taught runs/longer --challenge happy surprise --shares 0.7 0.3 \
  --people corpora/lfw:1,2,3,4,5,6,7,8
drawn="--train_weights 0.40 0.38 0.06 0.01 0.04 0.11"
$distilled $drawn --start_from runs/longer --out runs/distilled6 --seed 9 --steps 7000 --warmup_steps 40          # 44
$distilled $drawn --start_from runs/distilled6 --out runs/distilled7 --seed 10 --steps 2400 --warmup_steps 20 \
  --learning_rate 8e-4                                                                                            # 25
python -m train.export runs/distilled7/last runs/longest --challenge happy surprise --people corpora/lfw:1,2,3,4,5,6,7,8
$distilled --train_weights 0.42 0.38 0.07 0.01 0.04 0.08 --start_from runs/longest --out runs/distilled8 --seed 11 \
  --steps 4800 --warmup_steps 40 --mixing_share 0.33 --composite_share 0.3 --network.identity_weight 0.03         # 75
people="--people corpora/lfw:1,2,3,4,5,6,7,8 corpora/mebeauty corpora/portraits"
people+=" --faces corpora/lfw:1,2,3,4,5,6,7,8 corpora/drawn:train corpora/mebeauty corpora/stills"
python -m train.export runs/distilled8/last runs/at_96_pixels --challenge happy surprise $people  # shipped before

# Images of 112 pixels. The first two runs were stopped by Ctrl-C, at step 2,003 and at step 1,047.
distilled+=" --image_size 112 --composite_share 0.25 --network.identity_weight 0.03 --ema_decay 0.998"
larger="--train_weights 0.42 0.38 0.07 0.01 0.04 0.08"
$distilled $larger --start_from runs/at_96_pixels --out runs/larger --seed 17 --steps 2800 --warmup_steps 60 \
  --learning_rate 1.2e-3 --mixing_share 0.25 --network.identity_weight 0.04                                       # 37
$distilled $larger --start_from runs/larger --out runs/larger2 --seed 18 --steps 3200 --warmup_steps 30 \
  --learning_rate 1e-3 --mixing_share 0.45                                                                        # 17
$distilled $larger --start_from runs/larger2 --out runs/larger3 --seed 19 --steps 1300 --warmup_steps 10 \
  --learning_rate 8e-4 --mixing_share 0.4                                                                         # 20
$distilled $larger --start_from runs/larger3 --out runs/larger4 --seed 20 --steps 5000 --warmup_steps 60 \
  --learning_rate 1.2e-3 --mixing_share 0.4                                                                       # 90, beside the next
$distilled --train_weights 0.33 0.49 0.06 0.01 0.04 0.07 --start_from runs/larger3 --out runs/larger5 --seed 21 \
  --steps 4000 --warmup_steps 60 --learning_rate 1.2e-3 --mixing_share 0.4                                        # 82
python -m train.export runs/larger4/last runs/larger5/last runs/both_tasks --shares 0.7 0.3 \
  --challenge happy surprise $people  # shipped before, and the start of the next run

# Branch 2 alone. The embeddings stay those of runs/both_tasks. The best validation is that of step 4,000, after 30 minutes.
python -m train --config train/presets/branch_2.yaml --seed 32                                 # 43, beside another run
python -m train.export runs/branch_2/best runs/both_tasks runs/branch_2_alone --shares 3 1 \
  --challenge happy surprise  # shipped before, and the start of the next runs

# The mean with networks that were trained for expressions only, with all layers. They forget identities, but the mean
# of their weights and those of their start does both.
expressions="python -m train --config train/presets/branch_2.yaml --start_from runs/branch_2_alone --freeze_shared false"
expressions+=" --steps 3500 --train_weights 0.25 0.64 0.05 0.06"
$expressions --out runs/expressions1 --seed 41 --learning_rate 1e-3 --mixing_share 0.4      # 51, beside the next
$expressions --out runs/expressions2 --seed 42 --learning_rate 1.5e-3 --mixing_share 0.5    # 51
python -m train.export runs/expressions1/last runs/expressions2/last runs/expressions --challenge happy surprise
python -m train.export runs/branch_2_alone runs/expressions runs/merged --challenge happy surprise

# Both tasks from there, with the networks for expressions as teachers of branch 2, and their mean with these networks.
$distilled $larger --start_from runs/merged --out runs/merged1 --seed 51 --steps 3400 --warmup_steps 60 \
  --learning_rate 1e-3 --mixing_share 0.4 --expression_teachers runs/expressions            # 77, beside another run
python -m train.export runs/merged1/last runs/expressions runs/merged2 --shares 0.8 0.2 --challenge happy surprise \
  $people

# Branch 2 alone again, and the mean with its start.
python -m train --config train/presets/branch_2.yaml --start_from runs/merged2 --out runs/branch_2_again --seed 72 \
  --steps 3000 --warmup_steps 60 --learning_rate 1.2e-3                                     # 18, beside another run
python -m train.export runs/branch_2_again/last runs/merged2 pretrained --shares 1 1 --challenge happy surprise
python -m evaluation calibrate --model pretrained --data corpora/lfw:9 corpora/ferplus:valid --far 0.001
