# Source this before a stage: the Python environment, and CPU settings that matter (see README.md).
export PATH="${TABREEL_REFENV:-$HOME/.cache/tabreel/refenv}/bin:$PATH"
export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
# AMX makes bf16 products 14 times as fast (1,500 GFLOP/s a core, measured). Some machines advertise it and die of SIGILL: those do without.
unset ONEDNN_MAX_CPU_ISA
python -c 'import torch; x = torch.ones(64, 64, dtype=torch.bfloat16); x @ x' 2>/dev/null || export ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16
export ACCELERATE_DISABLE_RICH=1
