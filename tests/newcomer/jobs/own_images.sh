# My photos, a folder for each class, made small.
cat > mine.yaml <<END
name: photos
network: {input: [3, 4, 4], layers: [{conv: 4}, {dense: 2}]}
data: {kind: images, root: photos, size: [4, 4], standardize: channel, augment: [flip], batch_size: 10}
schedule: {kind: sweep}
plasticity: {kind: contrastive_hebbian, optimizer: {kind: adam, lr: 0.05}}
training: {epochs: 3, validation: 0.25}
END
neurosim run mine.yaml > said
grep -E "^test accuracy +(8|9|10)[0-9.]+ %" said
