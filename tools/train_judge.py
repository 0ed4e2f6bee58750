"""Train the text head of the verdict on texts made up by a small grammar.

    python tools/train_judge.py            # writes vita_duplex/engine/judge.npz

Needs scikit-learn (the `dev` extra). No corpus is read and no audio heard: the texts come from the sentence
patterns below, the log-probabilities from distributions like those Moonshine showed. The same seed gives the
same file. The figures printed are for patterns of the training with other words in them, so they flatter;
`tests/test_judge.py` measures real speech.
"""

import argparse
import random
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from vita_duplex.engine.cascade.judge import WEIGHTS, features
from vita_duplex.engine.ports import Transcript

SLOTS = """
thing: a tree | the ocean | a piano | the internet | gravity | a rainbow | cheese | the heart | a computer
    | an airplane | chocolate | electricity | a black hole | bread | the moon | coffee | a volcano | wine
    | a bicycle | glass | a virus | money | inflation | a guitar
place: Madrid | Canada | Tokyo | Brazil | Rome | Egypt | Sweden | Chicago | India | Vienna | Kenya |
    Moscow | Peru | Boston | China | Dublin
person: Einstein | Shakespeare | Napoleon | Marie Curie | Beethoven | Cleopatra | Picasso | Newton |
    Gandhi | Darwin
work: Hamlet | the Mona Lisa | Moby Dick | the ninth symphony | Don Quixote | Faust | the telephone | the
    steam engine
animal: cats | elephants | bees | sharks | owls | dolphins | horses | snakes | frogs | bears | eagles |
    ants
topic: history | physics | football | cooking | the Romans | jazz | dinosaurs | space travel | chess |
    gardening | climate change | robots | painting | philosophy | the stock market | ancient Greece
food: pancakes | tomato soup | an omelette | rice | lasagna | a cake | roast chicken | curry | salad |
    pasta
time: five minutes | half an hour | seven o'clock | tomorrow morning | noon | an hour | ten seconds |
    Monday at nine
day: today | tomorrow | tonight | this weekend | on Sunday | next week | right now | in the morning
number: three | seven | twelve | twenty | fifty | a hundred | two thousand | nine | forty five | six
language: German | French | Italian | Chinese | Russian | Portuguese | Latin | Korean
adjective: big | old | fast | deep | heavy | expensive | dangerous | hot | rare | long | far away | high
lead: Wait, | Okay, but | Sorry, | And | But | So | Actually, | No, | Hey, | Please, | Hold on, | Um, |
    Well, | Oh, | Hmm, | Great, | Excuse me,
song: some jazz | my favourite song | a lullaby | classical music | the radio | the second movement |
    something relaxing
device: the light | the heating | the alarm | the music | the television | the fan | the radio
name: Maria | Paul | Lena | Jack | Susan | Omar | Nina | Oliver | Grace | Henry | Kate | Ben | Sophie |
    Mark | Julie | Steve | Laura | Martin
kin: Mum | Dad | honey | darling | sweetheart | guys | kids | dear | Mom | Grandma | boys | love
he: he | she | they | my brother | the teacher | our neighbour | the old man | the girl | his wife | the
    captain | my boss | her son
He: He | She | They | My brother | The teacher | Our neighbour | The old man | The girl | His wife | The
    captain | My boss | The woman
went: walked to | came back from | looked at | sat down in | waited at | left | ran towards | drove past |
    thought about | remembered
spot: the station | the garden | the kitchen | the church | the office | the market | the forest | the
    harbour | the hotel | school
did: smiled | said nothing | closed the door | began to laugh | fell asleep | turned away | took off the
    coat | lit a candle
object: keys | glasses | phone | jacket | bag | umbrella | book | charger | wallet | shoes
chore: take out the rubbish | set the table | close the door | feed the cat | walk the dog | pick up the
    kids | do the dishes | bring me a towel | come downstairs | turn off the oven | help me with this box
    | wash your hands
meal: coffee | tea | soup | breakfast | cake | dinner | wine | water | toast
body: government | council | president | committee | court | bank | union | army | ministry | company |
    team | club
announced: announced new measures | rejected the proposal | agreed on a budget | reported heavy losses |
    won the vote | opened an inquiry | raised its forecast | lost the final | cut interest rates | signed
    the contract
when: yesterday | last night | on Tuesday | last year | in the afternoon | two weeks ago | before
    Christmas | this morning
state: tired | busy | sick | married | very angry | on holiday | in hospital | late again | happy | out of
    work
verb: shorten | rewrite | continue | compare | check | rank | simplify | sort | cut | find | use | solve |
    pronounce | lower | leave out | go over | get back to | drop | swap | replace | finish | quote | sum
    up | list | keep | try | guess | pick | change | describe | review | sing | update | draw
part: it | that | the last part | the first paragraph | the one before | both of them | all of that | the
    numbers | the names | the title | the ending | another one | a different one | the second line | the
    rest | my list | the volume | the answer | your voice
fault: loud | fast | long | slow | complicated | short | much | difficult | quiet | vague | detailed |
    boring
mood: lovely | strange | awful | nice | funny | sad | silly | beautiful | pretty | good | bad | terrible |
    great | cute
case: day | mess | surprise | shame | pity | story | goal | view | house | dress | idea | baby
card: king of hearts | two of spades | ace of clubs | jack of diamonds | six of spades | ten of hearts
"""
"""What may stand in a pattern for `{name}`, one name a paragraph."""

QUERIES = """
What is {thing}? | What's the capital of {place}? | What's the weather in {place} {day}? | What is {number}
plus {number}? | What time is it in {place}? | What do {animal} eat? | What happened to {person}? | What
does that word mean? | What can you tell me about {topic}? | What should I cook {day}? | What is the
difference between {thing} and {thing}? | What did you just say? | What was that? | What about {place}? |
What about {animal}? | What languages are spoken in {place}? | What's the best way to learn {language}? |
What's the meaning of {topic}? | What else do you know about {topic}? | Who wrote {work}? | Who invented
{work}? | Who was {person}? | Who is the president of {place}? | Who are you? | Who made {work}? | Where is
{place}? | Where do {animal} live? | Where was {person} born? | Where can I buy {food}? | Where does {thing}
come from? | When was {person} born? | When did {person} die? | When is the next train to {place}? | When
was {work} made? | When is sunrise {day}? | Why is {thing} so {adjective}? | Why do {animal} sleep? | Why
does it happen? | Why did {person} leave {place}? | Why would I do that? | How {adjective} is {thing}? | How
many people live in {place}? | How much is {number} times {number}? | How does {thing} work? | How do I make
{food}? | How do you pronounce that in {language}? | How long do {animal} live? | How far is it to {place}?
| How are you {day}? | How can I get to {place}? | How old was {person}? | How long does it take? | How is
{food} made? | Which is more {adjective}, {thing} or {thing}? | Which of them was first? | Which language do
they speak in {place}? | Is {thing} {adjective}? | Is it {adjective} in {place}? | Is that right? | Is there
a flight to {place} {day}? | Is {place} {adjective}? | Are {animal} {adjective}? | Are you sure about that?
| Are there {animal} in {place}? | Are you listening? | Are you a robot? | Do {animal} like {food}? | Do you
speak {language}? | Do you know {person}? | Do I need a visa for {place}? | Do you have any news? | Does
{thing} cost money? | Does it hurt? | Does {place} have a king? | Did {person} ever visit {place}? | Did you
understand me? | Can {animal} swim? | Can you tell me about {topic}? | Can you play {song}? | Can you set an
alarm for {time}? | Can you say that in {language}? | Can you stop for a moment? | Can I ask you something
else? | Can you go back to {topic}? | Can you say it more slowly? | Can you continue? | Could you explain
{thing}? | Could you turn on {device}? | Could you please repeat the last part? | Could you stop now? | Will
it snow {day}? | Will it be hot in {place}? | Would you recommend {place}? | Would you tell me a story about
{animal}? | Should I bring a coat {day}? | Should I visit {place} or {place}? | Was {person} married? | Have
you ever heard of {person}? | Tell me about {topic}. | Tell me about {person}. | Tell me a story about
{animal}. | Tell me something about {place}. | Tell me how {thing} works. | Give me a recipe for {food}. |
Give me {number} facts about {animal}. | Give me more details. | Give me a quick summary of {topic}. | Show
me pictures of {place}. | Show me the way to {place}. | Explain {thing} to me. | Explain how {thing} works.
| Explain that again. | Set a timer for {time}. | Set an alarm for {time}. | Wake me up at {time}. | Remind
me {day} to buy {food}. | Remind me in {time}. | Play {song}. | Play the news. | Stop {device}. | Turn off
{device}. | Turn on {device}. | Turn {device} down. | Switch off {device}. | Translate that into {language}.
| Translate thank you into {language}. | Say hello in {language}. | Repeat the last sentence. | Read that
again. | Read me something about {topic}. | Write an email about {topic}. | Write a song about {animal}. |
Name {number} {animal}. | Call {name}. | Send a message to {name}. | Add {food} to my list. | Order {food}
for {number} people. | Book a table for {number}. | Compare {place} and {place}. | Describe {place}. |
Define {topic}. | Calculate {number} times {number}. | Count to {number}. | Go back one step. | Go to the
next chapter. | Skip the introduction. | Start again from the beginning. | Speak {language}. | Speak up. |
Slow down. | Make it shorter. | Stop it now. | Stop reading. | Stop the music. | Wait, stop. | Okay, stop. |
Stop, please. | Wait, not {place}. | Not {place}, {place}. | I want to hear about {topic}. | I want to go to
{place}. | I'd like to learn about {topic}. | I'd like to hear {song}. | I need help with {topic}. | I need
a hotel in {place}. | I'd like a table for {number} {day}. | I have a question about {topic}. | I have to
write about {topic}. | I'm looking for a book about {topic}. | I would like to know more about {person}. | I
wonder how {thing} works. | I meant {place}, not {place}. | I was asking about {topic}. | I asked about
{person}. | I don't want to hear about {topic}. | I didn't understand the part about {thing}. | I said
{place}. | That's wrong. | That's not what I meant. | That's not {adjective}. | You misunderstood me. | You
said {number} before. | Let's talk about {topic}. | Let's play a game. | Let's go back to {topic}. | Let me
think, what about {animal}? | Let me hear {song}. | My name is {name}. | My favourite animal is the dolphin,
what's yours? | Help me with {topic}. | Help me write a letter. | Teach me some {language}. | Recommend a
book about {topic}. | Suggest something for dinner. | Find a restaurant in {place}. | Find me a flight to
{place}. | Check the weather in {place}. | Enough about {topic}. | Something about {animal}, please. | More
about {person}, please. | Louder, please. | The other one, please. | In {language}, please. | And in
{place}? | And {animal}? | And after that? | Even in {place}? | Like what? | For example? | In {place}? |
For how long? | Since when? | With {food}? | Hello, I have a question about {topic}. | Hi, how are you? |
Hello, who are you? | Good morning, will it rain {day}? | Hey Vita, play {song}. | {verb} {part}. | {verb}
{part}, please. | {verb} {part} in {language}. | {verb} {part} and {verb} {part}. | Now {verb} {part}. |
Don't {verb} {part}. | You're too {fault}. | You're speaking too {fault}. | That can't be right. | That's
not what I asked. | Hold on a minute. | Wait, I know that. | Is that all? | Do I have anything on my
calendar {day}? | Do I need {food} for that? | Am I too {fault}? | Will there be a train to {place}? | Will
I need a visa? | Are {animal} better than {animal}? | That's too {fault}. | Too {fault}. | You are too
{fault}. | That was too {fault}, {verb} {part}. | Not so {fault}. | A bit less {fault}, please. | That's
all, thanks. | That's enough about {topic}. | New topic, {topic}. | Next question, what is {thing}? | Quick
question, is {thing} {adjective}? | I already know {part}. | I know that already. | I've never heard of
{person}, what did they do? | I'd prefer {song}. | I'd rather hear about {topic}. | I don't know what that
means. | I don't get {part}. | I didn't catch {part}. | I'm confused about {part}. | You forgot {part}. |
You skipped {part}. | No, {part}. | No, the {adjective} one. | No, in {language}. | The {adjective} one. |
Anything about {topic}? | Any news from {place}? | Anything else I should know about {place}? | Remember
that my name is {name}. | I am allergic to {food}, what can I eat? | I have {number} eggs, what can I make?
| If I have {number} euros, can I fly to {place}? | In {place}, what do people eat? | On average, how
{adjective} are {animal}? | By the way, who is {person}? | Tomorrow, will it rain in {place}? | Thanks, what
about {place}? | Thank you, and {person}? | Thanks, that's enough. | No, stop. | No, tell me about {topic}.
| Yes, please tell me.
"""

OTHERS = """
{name}, could you {chore}? | {name}, can you {chore}? | {name}, would you {chore}, please? | {name}, come
here. | {name}, have you got the {object}? | {kin}, could you {chore}? | {kin}, can you {chore}? | {kin},
where is my {object}? | {kin}, I'm home. | {kin}, dinner is ready. | {kin}, come here. | Could you {chore},
{name}? | Can you {chore}, {kin}? | Please {chore}, {name}. | What do you think, {name}? | Have you seen my
{object}? | Did you {chore}? | Where are my {object}? | Have you seen my {object}, {name}? | Did you bring
your {object}? | Give me your {object}, {kin}. | Hand me the {object}. | Do you want some {meal}? | Would
you like a piece of {food}? | Do you want more {meal}, {name}? | Who wants {meal}? | Are you hungry, {kin}?
| Are you coming, {name}? | Are you ready to go, {kin}? | Are you cold? | Is that your {object}? | Whose
{object} is this? | Don't touch that, {name}. | Hi {name}, how was school? | Hi {name}, nice to see you. |
Hello {name}, come in. | Bye {name}, see you {day}. | Good night, {name}. | Happy birthday, {name}. | Yes,
hello, this is {name}. | Yes, I'm on my way home. | I'm at {spot}, I'll call you later. | I can't talk now,
I'm at {spot}. | No, {he} isn't here. | I'll be home in {time}. | I'll tell {name} when I see her. | We can
meet {day} at {spot}. | Yes, that's fine, see you {day}. | Tell {name} I said hi. | Okay, I'll ask {name}
about it. | Yeah, I told {name} already. | Sorry, I have to take this call. | It's {name} on the phone. |
I'll get the door. | {He} {went} {spot} and {did}. | {He} {went} {spot} {when}. | {He} {did} and {went}
{spot}. | When {he} {went} {spot}, it was already dark. | {He} was {state} when we {went} {spot}. | {He} had
never {did} before. | After a while {he} {did}. | There was nobody at {spot} {when}. | "I don't know," {he}
said. | {He} said that {he} was {state}. | It was a cold morning at {spot}. | The road to {spot} was long
and empty. | Once there was a {body} near {spot}. | In those days {he} often {went} {spot}. | And {he} {did}
without looking back. | Had {he} known, {he} would have waited. | The {body} {announced} {when}. | The
{body} of {place} {announced} {when}. | According to the {body}, prices rose by {number} percent. | A
spokesman for the {body} said {when} that {he} was {state}. | In {place}, the {body} {announced}. |
Temperatures in {place} reached {number} degrees. | The match ended {number} to {number}. | Police in
{place} arrested {number} people {when}. | And now the weather for {place}. | More on that after the break.
| Experts warn that {thing} is getting {adjective}. | The film about {person} opens {when}. | This programme
was brought to you by the {body}. | I was {state} {when}. | I met {name} at {spot} {when}. | We {went}
{spot} {when}. | My {object} is broken. | I lost my {object} {when}. | I left my {object} at {spot}. | I
bought {food} for {name}. | I think {name} is {state}. | {name} is {state} again. | {name} told me that {he}
was {state}. | I don't like {food}. | We had {food} {when}. | The {meal} is getting cold. | This {meal} is
too hot. | There's no {meal} left. | I need to {chore}. | I have to {chore} {day}. | I should {chore} first.
| Where did I put that {object}? | Now where are those {object}? | I always forget my {object}. | That was
{number} euros. | He's always {state}. | She's {state}, you know. | They were {state} {when}. | It's so
{adjective} here. | It was {adjective}, but we liked it. | You know what {name} did {when}? | Guess what
{name} said. | You look {state}. | You should see {spot} {day}. | Your {object} is on the table. | Your
{meal} is ready. | That's what {name} said. | That's my {object}. | This is my {object}. | That looks like
{food}. | Look, there's {name}. | Look at that {object}. | {card}. | {card}, {card}. | {number}, {number},
{number}. | {number} {card}. | {number} and {number}. | Your turn, {name}. | Yeah, I think so. | Oh, that's
nice. | Well, I suppose so. | Oh, I didn't know that. | Hmm, that's strange. | Ah, that's why. | Okay, I
see. | Yeah, that's true. | Oh really, that's interesting. | Right, that makes sense. | I never thought of
that. | Oh, it's {adjective}. | Yeah, {number}. | No way, that's crazy. | Ha, that's funny. | Yeah, exactly.
| Well, that's good to know. | Okay, that's fine. | Alright then. | That's what I thought. | Oh no, I forgot
my {object}. | Ow, my foot. | Ugh, not again. | Come on, come on. | Where was I? | Let me see, my {object}.
| Good dog. | Here, kitty. | So I told {name} that {he} was {state}. | And then {he} {did}. | But {he}
{did}. | So we {went} {spot}. | And {he} {went} {spot}. | Because {he} was {state}. | What a {mood} {case}.
| What a {mood} {case}! | What a {case}. | How {mood}. | How {mood}! | That's so {mood}. | Oh, that's a
{case}. | That's {mood}. | This is {mood}. | Have a seat. | Take a seat. | Have some {meal}. | Is {meal}
ready? | Is the {meal} still warm? | Is anybody home? | Is this your {object}? | Do you mind if I {chore}? |
Excuse me, can I get through? | Excuse me, is this {spot}? | May I come in? | Could I have the bill, please?
| Two {card}, please. | {number} {meal}, please. | Sit down, please. | Come here. | Come in. | Come on in. |
Hurry up. | Watch out. | Be careful with the {object}. | Leave the {object} there. | Don't forget your
{object}. | Wait for me. | Get up. | Get dressed. | Put your {object} away. | Put the {object} down. | Look
at that {case}. | Look at my {object}. | Look what I found. | Can you believe what {he} said? | Do you
remember when we {went} {spot}? | Shall we go to {spot}? | Should we ask {name}? | When are you coming home?
| When will you be home? | Thanks for the {object}. | Thanks for coming. | Thank you for the {meal}. | See
you at {spot}. | I'm {state}. | I'm so {state}. | I'm in the kitchen. | I'm going to bed. | We should go
now. | We have to leave. | We're late. | Someone is at the door. | Somebody took my {object}. | I wish I was
at {spot}. | I hope {name} is well. | {He} asked me where the {object} was. | {He} wants to know if you are
{state}. | {He} doesn't want to {chore}. | {He} can't come {day}. | {He} will be here {day}. | Are you still
{state}? | Are you {state}? | Is your {kin} {state}? | Do you want to {chore}? | Do you want to go to {spot}
{day}? | Do you like my {object}? | Did you have a {mood} {case}? | Do you still have my {object}? | How is
your brother? | How was your {case}? | How was {spot}? | Talk to you later. | Okay, bye. | See you, bye bye.
| {kin} stop that. | {name} stop it. | Will you be at {spot} {day}? | Were you at {spot} {when}? | Why are
you so {state}? | Why didn't you {chore}? | What did {name} say? | Not you, {name}. | I wasn't talking to
you. | I'm talking to {name}. | Nothing, I was talking to {name}. | {name} and I {went} {spot}. | And {name}
{did}. | The {object} is under the table. | The {body} is {state}. | The train from {place} arrives on
platform {number}. | The {meal} smells good.
"""

STATEMENTS = """
{name}. | {name} {name}. | I'm {name}. | I am {name}. | It's {name}. | My name is {name}. | Call me {name}. | {place}. | {place} or
{place}. | To {place}. | To {place}, please. | I want to see {place}. | {place}, I think. | I'd say {place}. | {number}. | {number} {number}. |
{number} {number} {number}. | {number}, {number}, {number}. | It's {number} {number} {number}. | My number is {number} {number} {number}. |
{number} please. | Just {number}. | {number} of them. | {number} people. | {number} adults and {number} children. | We are {number}. | There are
{number} of us. | Maybe {number}. | I think it's {number}. | Is it {number}? | {day}. | {day} at {number}. | On Monday. | At {number}. | Around
{number}. | {time}. | In {time}. | {language}. | In {language}. | {language} or {language}. | {food}. | {food}, please. | {food} with {food}. |
Some {food}. | I'd like {food}. | No {food}, please. | Just {meal}. | {meal} and {food}. | The {adjective} one. | The {adjective} one, please. | The
first. | The second one. | The last one. | Both. | Both of them. | Neither. | Either. | A small one. | A large one. | The same again. | Yes, {part}. |
Yes, I do. | Yes, I have. | No, I don't. | No, I haven't. | Not yet. | Not really. | Not now. | Maybe. | Maybe later. | Probably. | Exactly. |
Almost. | I think so. | I don't think so. | I guess so. | I don't know. | I'm not sure. | I'd rather not. | Whatever you think. | Anything. |
Because {he} was {state}. | Because I was {state}. | Because it is {adjective}. | Because {thing} is {adjective}. | Since {time}. | For {time}. | A bit
{adjective}. | Very {adjective}. | I'm {state}. | I am so {state}. | I feel {state}. | I feel {adjective} today. | I have a headache. | I have a
cold. | I have a problem with {thing}. | I have a problem with my {object}. | I have {number} children. | I have {time}. | I've been {state} for
{time}. | My {object} is broken. | My {object} doesn't work. | My back hurts. | My {object} hurts. | The {device} is not working. | {device} is
broken. | It doesn't work. | It makes a strange noise. | I lost my {object}. | I lost my {object} {when}. | I left my {object} at {spot}. | I forgot my
{object}. | I can't find my {object}. | I can't sleep. | I can't hear you. | I can't remember the name. | I'm trying to learn {language}. | I'm
learning {language}. | I'm learning about {topic}. | I am writing about {topic}. | I'm looking for a present. | I'm looking for a {object}. | I am
going to {place} {day}. | We are going to {place}. | We want to move to {place}. | We want to visit {place}. | We are planning a trip to {place}. |
I was in {place} {when}. | I went to {spot} {when}. | We went to {spot} {when}. | I was at {spot} {when}. | I met a friend {when}. | I cooked {food}
{when}. | We had {food} {when}. | I ate {food}. | I read a book about {topic}. | I watched a film about {animal}. | I like {food}. | I don't like
{food}. | I love {animal}. | I prefer {food}. | I hate {topic}. | I live in {place}. | I was born in {place}. | I come from {place}. | I work at
{spot}. | My {kin} is {state}. | My brother lives in {place}. | My son likes {animal}. | My wife is from {place}. | I need to buy {food}. | I need
{food}. | I need a {object}. | I need to be at {spot} at {number}. | I have to write a letter. | I have an appointment {day}. | My flight was
cancelled. | It rained {day}. | It rained all day. | It was {adjective}. | It was {mood}. | It was very {mood}. | Nothing much. | Nothing special. |
That is too {fault} for me. | That's too {adjective} for us. | That's a pity. | That helps, thanks. | Thanks, that helps a lot. | Then I need a
{object}. | Then I'll stay at home. | I'd hoped it was {adjective}. | We only have {time}. | I think we should talk about {topic}. | I think {thing} is
{adjective}. | I think {place} is {mood}. | Nice weather {day}. | I'm bored. | I am thirty years old. | I'm {number} years old. | I'm {number}. |
J O H N. | A B C. | M I double L. | B as in {place}. | K {number} {number}. | {name} dot {name} at mail dot com. | {name} at web dot org. | {name} at
{topic} dot net. | It's {name} at mail dot com. | I said {number}. | I said I need {food}. | I want to talk about {topic}. | I just want to talk. | I have
another problem. | I have another question. | That is not {adjective}. | They are {adjective}. | {animal}. | {animal} and {animal}. | {topic}. | {thing}. |
{person}. | {work}. | Like {animal}. | Something {adjective}. | Somewhere {adjective}. | Something with {food}. | Yes, at {number}. | No, at {number}. |
Nobody told me. | They sent me the wrong {object}. | It stopped {when}. | It fell down. | It broke {when}. | The bus didn't come. | The train was
late. | The shop was closed. | The door doesn't close. | There is a problem with {thing}. | There was no {food} left. | There is water on the
floor. | I bought it {when}. | I paid {number} euros. | I already have one. | I've already tried that. | I tried that {when}. | I didn't
understand that. | I don't understand the question. | I didn't hear the last part. | I think you are wrong. | You are right. | You said {number}.
| You told me that before. | That sounds {mood}. | That's interesting. | That was {mood}. | That makes me {state}. | That's not what I meant. | I
meant {place}. | I mean the {adjective} one. | I changed my mind. | I'm still here. | I'm back. | I'm ready. | I give up. | I forgot. | I made a
mistake. | I have no idea. | I'd love to. | I'd prefer {food}. | With {food}. | Without {food}. | By train. | By car. | On foot. | At home. | At
work. | In summer. | Every day. | Twice a week. | Once a month. | Never. | Often. | Sometimes. | About {number} minutes. | Less than {number}. |
More than {number}. | Between {number} and {number}. | Half of it. | All of it. | A little. | A lot. | Too much. | Not much. | Fine, thanks. |
Very well, thank you. | My favourite is {food}. | My favourite animal is {animal}. | It's about {topic}. | It's called {work}. | It's {day}. | It
starts at {number}. | It was {when}. | It is {adjective} here. | We have {number} of them. | We don't have any. | We ran out of {food}. | We
moved to {place} {when}. | Our {device} is {adjective}. | My {kin} told me about {topic}. | My neighbour is {adjective}. | My boss is {state}. |
My {object} is {adjective}. | My {object} is at {spot}. | Everything is {adjective}. | Something is wrong with {thing}. | I want to learn
{language}. | I want to know more about {topic}. | I want to cook {food}. | I'm afraid of {animal}. | I dreamt of {animal}. | I'm cooking {food}.
| I'm on my way to {spot}. | I wonder about {topic}. | I finished the book. | I start {day}. | I leave {day}. | I grew up in {place}. | I used to
live in {place}. | I've never been to {place}. | I can't decide. | I could eat {food}. | I should sleep more. | I would rather go to {place}. | I
wish it was {adjective}.
"""
"""What is said to an assistant in silence, besides questions: answers, statements, dictation."""

ELSEWHERE_IN_SILENCE = """
Good evening and welcome to {spot}. | Good evening, ladies and gentlemen. | Welcome back to the
show. | Welcome to the {topic} show. | Our next guest is {person}. | Our guest tonight is from {place}. | Please welcome the {body}. | And here
is the news. | The next programme is about {topic}. | Stay with us. | We will be right back. | Let's go to {spot}. | Let's go to the {spot} {day}.
| Let's eat. | Let's sit over there. | Let's ask {name}. | Hi {name}, come in. | Come in, {name}. | I'm {name}, come in. | Come over here. | Put it
over there. | Put it on the table. | Put that back. | Give that back to {name}. | Don't touch that. | Don't do that, {name}. | Call now and save
{number} percent. | Buy now and get {number} percent off. | Only {number} euros, this week only. | Order {food} now. | My lord, {he} is waiting. |
My dear {name}, said {he}. | Your majesty, {he} {did}. | Is {name} there? | {name} is on the phone. | It's for you, {name}. | The phone is ringing. |
Did you hear that, {name}? | Did you buy {food}? | Did you pick up {name}? | Let the dog out. | The {kin} are asleep. | {kin}, look at me. | Time for
bed, {kin}. | Brush your teeth. | Eat your {food}. | And the winner is {name}. | {number} points for {place}. | He shoots, and it's a goal. | The score is
{number} to {number}. | In the {number} minute {place} scored. | Ladies and gentlemen, the captain speaking. | The doors open on the left. | The next stop
is {place}. | Chapter {number}. | {He} took the {object} and {did}. | {He}, who was {state}, {did}. | The {adjective} man {went} {spot}. | The
king of {place} had {number} sons.
"""
"""Radio, television and household talk that a statement to an assistant has to be told from."""

PRIVATE = re.compile(
    r"I'm |I am |I met|I lost|I left|I don't like|I need|I have to|We \{went|We had|My \{object\} is|I was |\{number\}|It was|It's so|"
    r"Yeah, I think|I bought|That's \{mood|Because"
)
"""Patterns of `OTHERS` that say in silence what `STATEMENTS` says: nobody could tell them apart."""

INVENTED = """
You | Oh. | So? | Thank you for watching! | Thank you. | Bye. | I'm sorry. | Okay. | The | And | Mm. | Yeah. |
Ha ha. | A lot of. | I'm going to.
"""


def split(text: str) -> list[str]:
    """Split at the bars; line breaks are blanks."""
    return [" ".join(item.split()) for item in text.split("|")]


CHOICES = {name: split(rest) for name, rest in re.findall(r"^(\w+):((?:.*\n)(?:    .*\n)*)", SLOTS, re.M)}


def compose(pattern: str, rng: random.Random) -> str:
    """Fill the slots of one pattern."""
    text = re.sub(r"\{(\w+)\}", lambda slot: rng.choice(CHOICES[slot[1]]), pattern)
    return text[:1].upper() + text[1:]


def roughen(text: str, rng: random.Random) -> str:
    """Make a text look heard: a question mark missed, the first word lost, a comma forgotten."""
    if rng.random() < 0.15:
        text = text.replace("?", ".")
    if rng.random() < 0.04 and text.count(" ") > 3:
        text = text.split(" ", 1)[1].capitalize()
    if rng.random() < 0.2:
        text = text.replace(",", "")
    if rng.random() < 0.5:
        # Words never seen before, so that the classes of words and the form count as well.
        text = re.sub(r"\b[a-z]{4,}\b", lambda word: word[0] if rng.random() < 0.7 else "x" * len(word[0]), text)
    return text


def make_texts(count: int, seed: int, *, silence: bool = False) -> list[tuple[Transcript, bool]]:
    """Half of them queries, all different; the log-probabilities as of clear and of noisy speech.

    In `silence` statements are queries as well.
    """
    rng = random.Random(seed)
    queries, others = split(QUERIES), split(OTHERS)
    if silence:
        queries = [*queries, *split(STATEMENTS) * 2]
        others = [pattern for pattern in others if not PRIVATE.match(pattern)] + split(ELSEWHERE_IN_SILENCE)
    made: dict[str, tuple[Transcript, bool]] = {}
    while len(made) < count:
        is_query = len(made) % 2 == 0
        text = compose(rng.choice(queries if is_query else others), rng)
        if is_query and rng.random() < 0.2:
            text = f"{rng.choice(CHOICES['lead'])} {text if text[0] == 'I' else text[0].lower() + text[1:]}"
        heard = roughen(text, rng)
        made.setdefault(heard, (Transcript(heard, -rng.expovariate(1 / 0.2)), is_query))
    for text in split(INVENTED):
        made[text] = (Transcript(text, -rng.uniform(0.1, 1.8)), False)
    return list(made.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()

    heads = {
        name: train(make_texts(args.count, args.seed, silence=name == "silence")) for name in ("speaking", "silence")
    }
    stored = {name: np.append(weights, bias).astype(np.float16) for name, (weights, bias) in heads.items()}
    np.savez_compressed(args.out, **stored)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


def train(texts: list[tuple[Transcript, bool]]) -> tuple[NDArray[np.float64], float]:
    """Weights and bias of a head; prints how it does on a tenth that it has not seen."""
    x = np.stack([features(transcript) for transcript, _ in texts])
    y = np.array([is_query for _, is_query in texts])
    held = np.arange(len(texts)) // 2 % 10 == 9  # pairs: queries and others take turns
    model = LogisticRegression(C=3.0, max_iter=1000).fit(x[~held], y[~held])
    scores = model.predict_proba(x[held])[:, 1]
    right = np.mean((scores > 0.5) == y[held])
    auc = roc_auc_score(y[held], scores)
    print(f"{(~held).sum()} texts trained, {held.sum()} held out: {right:.1%} right, AUC {auc:.4f}")
    return model.coef_[0], float(model.intercept_[0])


if __name__ == "__main__":
    main()
