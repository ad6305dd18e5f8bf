"""The Kafka host: a store on the topics of a broker. The shards here know no broker; ``agents/`` drives them with
Faust."""
