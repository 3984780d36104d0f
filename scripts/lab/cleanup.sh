# Ends everything of one lab: sh -c "$(cat cleanup.sh)" lab BRIDGE CGROUP HOST...
# Waits for the end of its standard input first, so the same text is the watcher and the sweeper.
# Errors are only litter that the next start sweeps again.
bridge=$1 cgroup=$2
shift 2
cat >/dev/null
if [ -d "$cgroup" ]; then
  echo 1 >"$cgroup/cgroup.kill"
  tries=0
  while grep -q 'populated 1' "$cgroup/cgroup.events" && [ $tries -lt 500 ]; do
    sleep 0.02
    tries=$((tries + 1))
  done
  find "$cgroup" -depth -type d -exec rmdir {} \;
fi
for host; do
  [ -e "/run/netns/$bridge-$host" ] && ip netns del "$bridge-$host"
  [ -e "/sys/class/net/$bridge-$host" ] && ip link del "$bridge-$host"
done
[ -e "/sys/class/net/$bridge" ] && ip link del "$bridge"
nft delete table netdev "relay_${bridge}_r" 2>/dev/null # the hub's, of a relay that was killed
exit 0
