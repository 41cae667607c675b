from lipsync.corpus.speech import speech_corpus
def open_corpus(data, n=300, valid=.1, test=.1, seed=0): return speech_corpus(n=n, valid=valid, test=test)
