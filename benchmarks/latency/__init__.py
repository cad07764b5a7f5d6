"""How fast is it, and how fast could it be? Run `python -m benchmarks.latency` in the repository's root.

plan        what is measured in a smoke, a usual and a full run
machine     whose figures these are, and whether anything else was running
engines, networks, bundles   what is measured: our engines; the same networks in torch; a bundle of 256 px
test_stages, test_end_to_end the grid, by pytest-benchmark
contest     we, the peers and the machine's own peak, in turns
starts, memory               fresh processes
agreement, folder            real images: do engines agree, does the command keep up with its engine
report      all of it as JSON; bars, page, plot: what a reader sees of it
"""
