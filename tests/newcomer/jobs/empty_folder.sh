# What is there to begin with, and what comes of one of it.
neurosim examples | grep random_order
neurosim run random_order training.max_steps=2 data.limit=100 --id first
neurosim examples poisson --to mine
grep "kind: poisson" mine/scenarios/poisson.yaml
test "$(echo *)" = "mine runs"
