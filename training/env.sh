# Source this before a stage: the Python environment, and CPU settings that matter (see README.md).
export PATH="${TABREEL_REFENV:-$HOME/.cache/tabreel/refenv}/bin:$PATH"
export OMP_WAIT_POLICY=PASSIVE ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 TOKENIZERS_PARALLELISM=false
export ACCELERATE_DISABLE_RICH=1
