# My table, by a scenario of a few lines.
cat > mine.yaml <<END
name: mine
network: {input: [4], layers: [{dense: 5}, {dense: 2}]}
data: {kind: csv, file: points.csv, label: species, standardize: channel, batch_size: 10}
schedule: {kind: sweep}
plasticity: {kind: contrastive_hebbian, optimizer: {kind: adam, lr: 0.05}}
training: {epochs: 3, validation: 0.25}
END
neurosim run mine.yaml --id first > said
grep -E "^test accuracy +(8|9|10)[0-9.]+ %" said
test -s runs/mine/first/report.html
