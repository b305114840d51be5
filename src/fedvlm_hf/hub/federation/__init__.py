"""Federating through a private repository: clients on different hosts with nothing between them but the Hub.

The server announces a round on the run's branch, in `federation/`; each client pulls it, trains with its own Trainer
on its own data and answers on its own branch `updates/CLIENT_ID`, or in a pull request where it may only read. The
server checks each answer, averages, and announces the next round. Only safetensors and JSON are read, on both sides.

**Who can read what: everyone with read access to the repository sees every client's update**, the global tensors of
every round, the metrics that clients report and the configuration. An update tells about the data that it was trained
on. The repository should be private, and read by those alone who may know that. Data, prompts, images and what a
client keeps between rounds never leave its host.

**Who can write what**: the Hub gives write access to a whole repository. Whoever may write can answer in another
client's name, or announce a round. Clients that should not are given read access and answer in pull requests, which
the Hub signs with their user name; a client's name stays with the user who answered in it first.
"""
