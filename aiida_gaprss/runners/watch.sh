#!/bin/bash
# Notes what a program of a job has used: bash watch.sh PID_OF_THE_JOB_SCRIPT WORD_OF_ITS_COMMAND_LINE
#
# Writes peak resident memory (kB), CPU time (clock ticks), and clock ticks per second to usage.txt, again and again while the job
# script lives. Nothing but bash and Linux' /proc is needed, since /usr/bin/time is not everywhere; without /proc nothing is written.
script=$1 word=$2
ticks=$(getconf CLK_TCK || echo 100)
declare -A memory cpu
while kill -0 "$script"; do
  for process in /proc/[0-9]*; do
    [[ $process != "/proc/$$" && $process/cwd -ef . ]] || continue
    mapfile -d '' words < "$process/cmdline"
    [[ " ${words[*]} " == *" $word "* ]] || continue
    while read -r key value _; do
      [[ $key == VmHWM: ]] && memory[$process]=$value
    done < "$process/status"
    read -r line < "$process/stat" || continue
    read -ra fields <<< "${line##*) }"
    cpu[$process]=$((fields[11] + fields[12]))
  done
  if ((${#memory[@]})); then
    memory_sum=0 cpu_sum=0
    for process in "${!memory[@]}"; do
      ((memory_sum += memory[$process], cpu_sum += ${cpu[$process]:-0}))
    done
    echo "$memory_sum $cpu_sum $ticks" > usage.part && mv -f usage.part usage.txt  # never seen half written
  fi
  if ((SECONDS < 10)); then pause=0.05; elif ((SECONDS < 100)); then pause=0.5; else pause=2; fi
  sleep $pause || sleep 1
done
