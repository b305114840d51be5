"""Federating through a private repository: clients on different hosts with nothing between them but the Hub.

The server announces a round on the run's branch, in `federation/`. Each client pulls it, trains with its own Trainer
on its own data and answers on its own branch `updates/CLIENT_ID`, or in a pull request if it may only read. The server
checks each answer, averages, and announces the next round. Both sides read only safetensors and JSON.

**Who can read**: everyone with read access to the repository sees every client's update, the global tensors of every
round, the metrics that clients report and the configuration. An update reveals something about the data that it was
trained on. Keep the repository private, and give access only to those who may know that. Data, prompts, images and
what a client keeps between rounds never leave its host.

**Who can write**: the Hub gives write access to a whole repository. Everyone who may write can answer in another
client's name, or announce a round. Give clients that should not be able to do this only read access: they answer in
pull requests, which the Hub signs with their user name, and a client's name stays with the user who first answered in
it.
"""
