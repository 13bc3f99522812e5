# What the batch scripts here share; to be sourced with $run_file set, from the folder that the job was submitted in.
#
# Starts `ostwald run`, or `ostwald resume` where an earlier part of the job has left a run directory. SLURM's warning
# (#SBATCH --signal=B:USR1@300 sends it to the script) goes on to the ranks, which write a checkpoint and leave with
# status 85: "resume me". The job then queues itself again under the same number.

if [ -d .venv/bin ]; then PATH=$PWD/.venv/bin:$PATH; fi # what `make install` made
directory=$(dirname "$run_file")/runs/$(basename "$run_file" .toml)
if [ -e "$directory/run.toml" ]; then task="resume $directory"; else task="run $run_file"; fi
# a cluster without PMIx in its SLURM: LAUNCH="mpirun"
${LAUNCH:-srun --mpi=pmix} ostwald $task &
ranks=$!
trap 'kill -USR1 $ranks' USR1
status=0
wait $ranks || status=$?
while kill -0 $ranks 2>/dev/null; do # the signal ended only the waiting
    status=0
    wait $ranks || status=$?
done
if [ $status -eq 85 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
