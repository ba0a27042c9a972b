#!/usr/bin/env python3
"""A transaction that is open in the log and that its coordinator knows nothing of, as a broker may leave behind when
it dies (lib/bus/kafka_heal.c says how). Here it is made without luck: the coordinator's own topic is put back to
what it was before the transaction began."""

import shutil
import signal
import unittest

import confluent_kafka.admin

import live
from stressed import FULL, StressTest


class Hang(StressTest):
    own = ("broker", "redis")

    def begin(self, stage, lane):
        """A producer that has the worker's id, as an earlier life of it had."""
        producer = confluent_kafka.Producer({**live.client(), "transactional.id": f"{self.fleet.prefix}{stage}.{stage}-1.{lane}"})
        producer.init_transactions(30)
        return producer

    def ends(self, topic, isolation):
        """Partition -> its end for such a reader; asked again while the broker, just up, knows less than the client."""
        def ask():
            places = live.partitions_of(self.fleet.admin, self.fleet.topic(topic))
            answer = self.fleet.admin.list_offsets({place: confluent_kafka.admin.OffsetSpec.latest() for place in places},
                                                   isolation_level=isolation, request_timeout=10)
            try:
                return {place.partition: future.result().offset for place, future in answer.items()}
            except confluent_kafka.KafkaException as error:
                if not error.args[0].retriable() and error.args[0].code() != confluent_kafka.KafkaError.UNKNOWN_LEADER_EPOCH:
                    raise
        return live.wait_for("the ends of the partitions", 30, ask, 0.5)

    def open_in(self, topic):
        """Partitions where readers have to stop before the end."""
        level = confluent_kafka.IsolationLevel
        stable, last = self.ends(topic, level.READ_COMMITTED), self.ends(topic, level.READ_UNCOMMITTED)
        return {p for p in stable if stable[p] < last[p]}

    def leave_open(self, producers, group, topic, positions):
        """A record for each of the topic's partitions from one producer, and positions from each, in a transaction of
        each; then all is forgotten that the coordinator wrote of them, and the broker is killed."""
        states, places = self.broker.site / "states", live.partitions_of(self.fleet.admin, self.fleet.topic(topic))
        self.fleet.admin = None  # librdkafka 2.16's fails an assertion when a broker dies
        self.broker.signal(signal.SIGTERM)
        live.wait_for("the broker to stop", 60, lambda: not self.broker.alive())
        shutil.rmtree(states, ignore_errors=True)
        states.mkdir()
        for each in self.broker.data.glob("__transaction_state-*"):
            shutil.copytree(each, states / each.name)
        self.broker.start()
        consumer = confluent_kafka.Consumer({**live.client(), "group.id": group})
        for producer, some in zip(producers, (positions[::2], positions[1::2])):
            producer.begin_transaction()
            for place in places[::2] if producer is producers[0] else places[1::2]:
                producer.produce(place.topic, b"", b"ghost", place.partition)
            producer.flush(30)
            producer.send_offsets_to_transaction(some, consumer.consumer_group_metadata(), 30)
        self.broker.kill()
        for each in states.iterdir():
            shutil.rmtree(self.broker.data / each.name)
            shutil.copytree(each, self.broker.data / each.name)
        self.broker.start()
        with self.assertRaises(confluent_kafka.KafkaException, msg="the positions are stable"):
            consumer.committed(positions, timeout=3)
        consumer.close()
        self.fleet.admin = confluent_kafka.admin.AdminClient(live.client())
        self.assertEqual({place.partition for place in places}, self.open_in(topic))

    def test_what_no_coordinator_knows_is_ended(self):
        """Nothing of it is ever committed: neither its positions, which stand beyond images that nobody has read, nor
        its records."""
        self.a_model()
        for stage, topic in (("preprocess", "images.prepared"), ("store", "images.stored"))[: 2 if FULL else 1]:
            with self.subTest(stage):
                worker = self.worker(stage)
                group, into = self.fleet.prefix + stage, live.STAGES[stage]
                self.fleet.wait_idle(60)
                worker.stop()
                producers = [self.begin(stage, lane) for lane in (0, 1)]
                positions = [confluent_kafka.TopicPartition(self.fleet.topic(into), p, end + 5)
                             for p, (_, end) in self.fleet.ends(into).items()]
                self.leave_open(producers, group, topic, positions)
                self.publish(100)
                worker.start()
                self.goes_on(worker)
                self.whole()
                self.assertEqual(set(), self.open_in(topic))
                self.assertNotIn(b"ghost", [record.key for record in self.fleet.read(topic)])


if __name__ == "__main__":
    unittest.main()
