/*
 * asyncapi_test: proto/asyncapi.yaml is a valid AsyncAPI document by the official parser, names the topics of
 * proto/topics.c and no other, and its schemas take real messages: the fixtures of every version, and any
 * FILE given on the command line. The beginning of a file's name is its topic: images.stored.2.json.
 *
 *     NODE_PATH=FOLDER/node_modules node asyncapi_test.js [FILE...]
 */
'use strict';

const fs = require('fs');
const path = require('path');
const {Parser} = require('@asyncapi/parser');
const Ajv = require('ajv');
const formats = require('ajv-formats');

const root = path.resolve(__dirname, '../..');
const text = fs.readFileSync(path.join(root, 'proto/asyncapi.yaml'), 'utf8');
const count = {PASSED: 0, FAILED: 0};

function check(name, complaints) {
    const verdict = complaints.length ? 'FAILED' : 'PASSED';
    count[verdict]++;
    console.log(`${verdict === 'PASSED' ? 'ok  ' : 'FAIL'} ${name}`);
    for (const complaint of complaints) console.log(`       ${complaint}`);
}

/* Errors of the parser; its advice (no contact, no tags) is not ours to follow. */
async function validate(yaml) {
    const {document, diagnostics} = await new Parser().parse(yaml);
    const errors = diagnostics.filter(d => d.severity === 0).map(d => `${d.path.join('.')}: ${d.message}`);
    return {document, errors};
}

function validators(document) {
    const ajv = new Ajv({strict: false, allErrors: true});
    formats(ajv);
    const byTopic = new Map();
    for (const channel of document.channels().all()) {
        const payloads = channel.messages().all().filter(m => m.payload()).map(m => m.payload().json());
        byTopic.set(channel.address().replace('{prefix}', ''), ajv.compile(payloads.length > 1 ? {anyOf: payloads} : payloads[0]));
    }
    return byTopic;
}

function complaints(byTopic, file, message) {
    const name = path.basename(file);
    const topic = [...byTopic.keys()].filter(t => name.startsWith(t + '.')).sort((a, b) => b.length - a.length)[0];
    if (!topic) return [`no topic is called as ${name} begins`];
    const valid = byTopic.get(topic);
    return valid(message) ? [] : valid.errors.map(e => `${e.instancePath || '/'} ${e.message}`);
}

async function main() {
    const {document, errors} = await validate(text);
    check('the document is valid', errors);
    const planted = await validate(text.replace('action: receive', 'action: devour'));
    check('a planted mistake is noticed', planted.errors.length ? [] : ['the parser took it']);
    if (!document) return;

    const byTopic = validators(document);
    const source = fs.readFileSync(path.join(root, 'proto/topics.c'), 'utf8');
    const topics = [...source.matchAll(/^ {4}\[[A-Z_]+\] = (?:(DLQ)\(|\{)"([^"]+)"/gm)].map(m => m[2] + (m[1] ? '.dlq' : ''));
    const said = [...byTopic.keys()];
    check('its channels are the topics', [
        ...topics.filter(t => !said.includes(t)).map(t => `${t} is missing`),
        ...said.filter(t => !topics.includes(t)).map(t => `there is no topic ${t}`),
        ...(topics.length ? [] : ['found no topics in proto/topics.c'])]);

    const folder = path.join(root, 'tests/fixtures/messages');
    const files = fs.readdirSync(folder, {recursive: true}).filter(f => f.endsWith('.json')).map(f => path.join(folder, f));
    for (const file of [...files, ...process.argv.slice(2)]) {
        const message = JSON.parse(fs.readFileSync(file, 'utf8'));
        check(path.basename(file), complaints(byTopic, file, message));
        const required = Object.keys(message).find(k => k === 'model' || k === 'id');
        const less = {...message, [required]: 7};
        if (!complaints(byTopic, file, less).length) check(`${path.basename(file)} with ${required} a number`, ['was taken']);
    }
}

main().then(() => {
    for (const verdict of Object.keys(count))
        if (count[verdict]) console.log(`[  ${verdict}  ] ${count[verdict]} test(s).`);
    process.exit(count.FAILED || !count.PASSED ? 1 : 0);
});
